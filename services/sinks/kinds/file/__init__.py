"""The ``file`` sink."""
