"""Delivers flow batches; one module a destination, one contract (`contract.py`), one table of names (`registry.py`)."""
