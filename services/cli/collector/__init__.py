"""``blobtide collector``: requests for Azure configuration."""
