"""What keeps secrets and other people's text harmless: redaction, the guard of credentials, escapes, private files."""
