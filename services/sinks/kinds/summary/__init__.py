"""The ``summary`` sink."""
