"""Deliver rows to destinations: each package in `kinds/` is a kind of destination, and `frame/` is their common framework."""
