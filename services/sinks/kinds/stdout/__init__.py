"""The ``stdout`` sink."""
