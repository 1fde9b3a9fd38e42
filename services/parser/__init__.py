"""parser: reads segments from ``Raw.FlowLogs``, writes flow batches to ``Extracted.Flows``.

Promises: input offsets, flow batches and dead letters are one transaction; rows of a blob keep their order and their partition;
what cannot become a row goes to ``Errors`` with its bytes and its position. A blob that is mostly bad is quarantined and only
referenced there until it is released (``Ingestion.Quarantine``); if too much is bad overall, the service stops.
"""
