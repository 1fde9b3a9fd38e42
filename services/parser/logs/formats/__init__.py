"""The formats of logs: what each one looks like, and which of its members become which columns."""
