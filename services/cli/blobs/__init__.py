"""``blobtide list-blobs`` and ``list-services``: what the configured environments contain, read from storage."""
