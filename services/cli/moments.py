"""Times as people write them on the command line."""

from __future__ import annotations

from datetime import UTC, datetime


def moment_of(text: str) -> datetime:
    """Parse RFC 3339 or a part of it, such as a date; without a zone it is UTC, like all times in the logs.

    Raises:
        ValueError: it is not a date or time.
        OverflowError: it is out of range in UTC.
    """
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
