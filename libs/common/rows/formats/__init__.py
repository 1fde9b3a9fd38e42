"""Rows as text and files, column by column. No I/O: whoever writes hands in what to write to."""
