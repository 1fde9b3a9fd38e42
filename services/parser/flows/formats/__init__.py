"""One pure module per log format: the shape of its records and what its tuple columns mean."""
