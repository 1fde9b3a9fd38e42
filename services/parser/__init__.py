"""parser: reads segments from ``Raw.FlowLogs``, writes flow batches to ``Extracted.Flows``.

Promises: input offsets, flow batches and dead letters are one transaction; rows of a blob keep their order and their partition;
what cannot become a row goes to ``Errors`` with its bytes and its place. A blob of which most does is left alone from then on
and named there by reference, until it is released (``Ingestion.Quarantine``); if too much of all does, the service stops.
"""
