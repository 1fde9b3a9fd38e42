"""Turn segments of flow logs into flow batches: the kernel and its formats. Pure."""
