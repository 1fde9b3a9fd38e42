"""Logs of applications in Kubernetes, as a log collector writes them to blob storage, with the truth about every line."""
