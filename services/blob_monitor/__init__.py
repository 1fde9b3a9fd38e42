"""blob_monitor: finds blobs and announces them to ingest.

Reads blob listings, queues of Event Grid events, and the compacted topic ``Ingestion.BlobState``; writes ``Ingestion.Blobs``
and ``Ingestion.BlobState``, both in one transaction, and ``Errors``. Promises: a blob is announced when it is new or its ETag
has changed, never otherwise; it is closed once after the closing timeout and reopened when it changes; events of a blob are in
that order. Several monitors divide the listing by partition ownership and take over from each other. A storage error suspends
one container for a while and never ends the process; a restart continues from the end of the state topic. Where names carry
time, memory use is proportional to the number of open blobs.

Announcements come from listings and, where an environment has an event queue, from a HEAD request for each blob that an event
names; both are judged against memory in the same way. With a queue, listings are rare and catch missed events. One monitor
reads a queue and owns all scopes of its environment. A message is deleted once its outcome is committed.
"""
