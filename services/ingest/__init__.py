"""Turns new byte ranges of blobs into segments.

Reads ``Ingestion.Blobs`` and the announced blobs; writes ``Raw.*``, ``Ingestion.Checkpoints``, ``Ingestion.Completions`` and
``Errors``. Exactly once inside Kafka: segments, checkpoint and input offsets are one transaction. When storage fails, the blob
waits; when the process dies, another one goes on from the last transaction. A blob by which processes die, or on which our code
crashes, again and again, is left alone and named in ``Errors`` until it is released.
"""
