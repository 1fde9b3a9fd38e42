"""``blobtide config``: check the settings, or show them."""
