"""One step of reading a blob: from its checkpoint to what became of it."""
