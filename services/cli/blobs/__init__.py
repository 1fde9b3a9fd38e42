"""``blobtide list-blobs``, ``list-services`` and ``inspect``: the blobs that the settings cover, in storage and in Kafka."""
