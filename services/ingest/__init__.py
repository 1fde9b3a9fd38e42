"""ingest: turns new byte ranges of blobs into segments.

Reads ``Ingestion.Blobs`` and the announced blobs; writes ``Raw.*``, ``Ingestion.Checkpoints``, ``Ingestion.Completions`` and
``Errors``. Exactly once inside Kafka: segments, checkpoint and input offsets are one transaction. If storage fails, the blob
waits; if the process dies, another one continues from the last transaction. A blob that repeatedly kills processes or crashes
our code is quarantined, and referenced in ``Errors``, until it is released.
"""
