"""Decode compressed blobs and files: gzip and zstd, in bounded steps, from any boundary between two members."""
