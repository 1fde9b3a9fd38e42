"""One step of reading a blob, from its checkpoint to the outcome."""
