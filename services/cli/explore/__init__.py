"""``blobtide explore``: look into raw topics line by line, through filters that are never run as code."""
