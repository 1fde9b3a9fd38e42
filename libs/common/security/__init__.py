"""Protect secrets and defuse untrusted text: redaction, the guard of credentials, escapes, private files."""
