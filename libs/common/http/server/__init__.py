"""A small HTTP server for APIs: HTTP/1.1 by h11, every limit given, one thread."""
