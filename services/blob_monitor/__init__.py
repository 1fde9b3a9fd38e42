"""blob_monitor: finds blobs and tells the ingester about them.

Reads blob listings and the compacted topic ``Ingestion.BlobState``; writes ``Ingestion.Blobs`` and ``Ingestion.BlobState``,
both in one transaction. Promises: a blob is announced when it is new or its ETag has changed, never otherwise; closed once
after the closing timeout and reopened when it changes; per blob in that order. Several monitors divide the listing by partition
ownership and take over from each other. A storage error passes over one container for a while and never ends the process; a
restart goes on where the state topic ends. Memory follows the number of open blobs, where names carry time.

What is announced comes from listings today. Another source of it is another producer of `listing.Chunk`: blobs of a scope,
which are judged against memory alike.
"""
