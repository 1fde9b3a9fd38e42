"""Names of the files: when they begin and what they are of, as in ``2026_05_01_12-00-00_flowinfo``.

The name of a source comes from outside, so it is reduced to characters that mean nothing to a file system: others are escaped
as in URLs, and of a long name only the beginning stays, with a hash of the whole. Different sources have different names.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import count
from typing import Final
from urllib.parse import quote

ZIP_END: Final = "_json.zip"
MEMBER_END: Final = ".json"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
FIRST_MS: Final = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MILLISECOND
LAST_MS: Final = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // _MILLISECOND
"""The times that names can say, in milliseconds since 1970; a year is left for times that are taken."""

_LONGEST: Final = 100
_KEPT: Final = 80
_MARK: Final = "~"  # escaped where a source has it, so that only we write it
_STAMP: Final = "%m_%d_%H-%M-%S"
_STAMP_LENGTH: Final = len("2026_05_01_12-00-00")
_ZIP_YEARS: Final = range(1980, 2108)


def titles(begins_ms: int, source: str) -> Iterator[str]:
    """Yield the names of a file of `source` whose first snapshot is of that time: the second it is of, then those after it."""
    begins = _EPOCH + timedelta(milliseconds=begins_ms)
    for seconds in count():
        yield f"{_stamp(begins + timedelta(seconds=seconds))}_{file_safe(source)}"


def file_safe(source: str) -> str:
    """Return a name for files that is that of no other source: at most 100 ASCII letters, digits and ``-_.%~``."""
    text = quote(source, safe="").replace(_MARK, "%7E")
    if len(text) <= _LONGEST:
        return text or _MARK
    return f"{text[:_KEPT]}{_MARK}{blake2b(source.encode(), digest_size=8).hexdigest()}"


def member_of(zip_name: str) -> str:
    """Return the name of the file in a zip."""
    return zip_name.removesuffix(ZIP_END) + MEMBER_END


def zip_time_of(title: str) -> tuple[int, int, int, int, int, int]:
    """Return the time in a name as zip files have it, in UTC, and within the years that they know."""
    year, rest = int(title[:4]), title[5:_STAMP_LENGTH]
    if year not in _ZIP_YEARS:
        return (_ZIP_YEARS[0] if year < _ZIP_YEARS[0] else _ZIP_YEARS[-1], 1, 1, 0, 0, 0)
    month, day, hour, minute, second = map(int, rest.replace("-", "_").split("_"))
    return year, month, day, hour, minute, second


def _stamp(moment: datetime) -> str:
    return f"{moment.year:04}_{moment:{_STAMP}}"
