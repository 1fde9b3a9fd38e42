"""aggregator: sums up flows.

Reads ``Extracted.Flows``; writes rollups to ``Metrics.Flows.*``, or to the topics of its aggregations, and what is no batch of
flows to ``Errors``, all in one transaction. Promises: each rollup is made of one record of one blob, or of one part of a record
that the parser had to divide, and of nothing else. So the aggregator keeps no state and waits for nothing: late records are
just further rows, a replay gives the same rows with the same positions, and the rows of a window add up to what the flow logs
say.

Rows leave on the partition number of their flows, so a blob's rows stay in order.
"""
