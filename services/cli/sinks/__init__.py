"""``blobtide sinks`` and ``blobtide sink-setup``."""
