"""blob_monitor: finds blobs and tells the ingester about them.

Reads blob listings, queues of Event Grid's events, and the compacted topic ``Ingestion.BlobState``; writes ``Ingestion.Blobs``
and ``Ingestion.BlobState``, both in one transaction, and ``Errors``. Promises: a blob is announced when it is new or its ETag
has changed, never otherwise; closed once after the closing timeout and reopened when it changes; per blob in that order.
Several monitors divide the listing by partition ownership and take over from each other. A storage error passes over one
container for a while and never ends the process; a restart goes on where the state topic ends. Memory follows the number of
open blobs, where names carry time.

What is announced comes from listings and, where an environment has a queue of events, from a look at each blob that an event
names; both are judged against memory alike. With a queue listings are rare, and find what no event has told. One monitor
reads a queue and owns all scopes of its environment. A message is deleted when what it led to is committed.
"""
