"""Rows: their wire form, their identity, and the text made from their columns."""
