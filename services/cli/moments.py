"""Moments as people write them on the command line."""

from __future__ import annotations

from datetime import UTC, datetime


def moment_of(text: str) -> datetime:
    """Read RFC 3339 or a part of it, such as a day; without a zone it is UTC, as are all times of the logs.

    Raises:
        ValueError: if it is no date or time.
        OverflowError: if UTC has no such year.
    """
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
