"""The ``redis`` sink."""
