"""``blobtide sinks``, ``blobtide sink-setup`` and ``blobtide sink-maintain``."""
