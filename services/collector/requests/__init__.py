"""Requests for configuration: their schema, the calls that they ask for, and templates. Pure."""
