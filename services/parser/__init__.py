"""Turns segments into flow batches."""
