"""A time zone as a setting."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator


def _known(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"unknown time zone {value!r}; use an IANA name such as Europe/Amsterdam") from error
    return value


TimeZoneName = Annotated[str, AfterValidator(_known)]
"""The IANA name of a time zone."""
