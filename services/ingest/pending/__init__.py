"""Pending work: announced blobs, how far each has been read, how often it has been tried."""
