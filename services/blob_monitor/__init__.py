"""Finds blobs, announces them on `Ingestion.Blobs`, closes and reopens them; its memory is `Ingestion.BlobState`."""
