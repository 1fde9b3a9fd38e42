"""``blobtide tail``: topics of the pipeline as readable lines."""
