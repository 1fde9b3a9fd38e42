"""recorder: polls HTTP sources and records what they answer.

Reads HTTP APIs, and the compacted topic ``Recorder.State``; writes ``Recorder.Snapshots`` and ``Recorder.State``, and what no
record can be made of to ``Errors``, all in one transaction. Promises: one recorder asks a source at a time; each answer is
recorded with the bytes that it had, and numbered without gaps; one that Kafka has acknowledged is there once. Several recorders
divide the sources by partition ownership and take over from each other.

A source is never asked again before its last answer is written, and whatever it does concerns no other: after a failure it is
asked less often, and an answer that is too large, no JSON or of another shape becomes a dead letter. When the process is told
to stop, it writes the answers that it has; those on their way come within seconds, or are never recorded.
"""
