"""Find where records in JSON text begin and end; shared by ingest, the parser and `convert`."""
