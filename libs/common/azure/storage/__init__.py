"""Blob storage: what the services need of it, and the one implementation on the Azure SDK."""
