"""What is to be read: announced blobs, how far each has been read, how often it was tried."""
