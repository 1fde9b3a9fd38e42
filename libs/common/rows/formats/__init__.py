"""Rows as text, column by column. No I/O."""
