"""Parallel work: fair scheduling, and the threads that do the work."""
