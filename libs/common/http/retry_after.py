"""The header ``Retry-After``, as far as it is a number of seconds."""

from __future__ import annotations


def retry_after_seconds(value: str | None, longest: float) -> float | None:
    """Return the seconds, at most `longest`; None without the header, and for a date, which is of a foreign clock."""
    text = "" if value is None else value.strip()
    return min(float(text), longest) if text.isascii() and text.isdigit() else None
