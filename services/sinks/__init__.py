"""Delivers flow batches; each of `kinds/` is a destination, and `frame/` is what all of them stand in."""
