"""One pure module a format: bytes in, columns out, no I/O."""
