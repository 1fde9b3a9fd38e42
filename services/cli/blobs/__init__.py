"""``blobtide list-blobs``, ``list-services``, ``inspect`` and ``ingest-blob``: the blobs that the settings cover."""
