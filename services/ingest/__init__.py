"""Turns new byte ranges of blobs into segments."""
