"""Rows on their way: their wire form, their identity, and text made of their columns."""
