"""Bytes of a blob into segments: whole records, whole lines, pieces of what is too long."""
