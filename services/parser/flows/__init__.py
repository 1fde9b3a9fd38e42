"""Segments of flow logs to flow batches: the kernel and its formats. Pure."""
