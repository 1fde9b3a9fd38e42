"""``blobtide demo``: generate logs, growing as in Azure, and the ground truth about them."""
