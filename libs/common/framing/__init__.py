"""Where the records of JSON text begin and end; shared by ingest, the parser and `convert`."""
