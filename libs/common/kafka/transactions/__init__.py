"""Consume, transform, produce in one transaction."""
