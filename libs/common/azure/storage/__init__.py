"""Blob storage: what the services need from it, and the only implementation that uses the Azure SDK."""
