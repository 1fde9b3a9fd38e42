"""Times of logs as columns: RFC 3339 with or without a zone, counts since 1970, and what Apache writes. Pure.

Whatever is no time between 1678 and 2262 is null. Times without a zone are UTC. What a text says depends on no other text of
its column: all that Arrow can read, is also read one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.types.log_columns import TIME
from services.parser.logs.numbers import integers, times, within

_NAIVE: Final = pa.timestamp("ns")
_A_MILLISECOND: Final = 1_000_000
_A_SECOND: Final = 1_000_000_000
_VERY_LAST: Final = 2**63 - 1
_LAST: Final = _VERY_LAST - _A_SECOND
_KEPT: Final = 8_192
_FEW: Final = 4

# Counts below these are of seconds, milliseconds and microseconds; larger ones are of nanoseconds. Each of these units reaches
# from 1973 to beyond 5000, so only counts of the first years after 1970 can be mistaken.
_UNITS: Final = ((10**11, _A_SECOND), (10**14, _A_MILLISECOND), (10**17, 1_000))

_MONTHS: Final = {"Jan": 1, "Feb": 2, "Mar": 3, "Apr": 4, "May": 5, "Jun": 6} | {
    "Jul": 7, "Aug": 8, "Sep": 9, "Oct": 10, "Nov": 11, "Dec": 12
}  # fmt: skip
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ZONE: Final = r" ?(?:[Zz]|UTC|(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d)?)?"
_CLOCK: Final = r"(?P<H>\d\d)(?::(?P<M>\d\d)(?::(?P<S>\d\d)(?:[.,](?P<f>\d{1,20}))?)?)?"
_ACCESS: Final = re.compile(rf"\[?(?P<d>\d\d?)/(?P<b>[A-Z][a-z][a-z])/(?P<Y>\d{{4}}):{_CLOCK}{_ZONE}\]?", re.ASCII)
_ISO: Final = re.compile(rf"(?P<Y>\d{{4}})[-/](?P<m>\d\d)[-/](?P<d>\d\d)(?:[Tt ]{_CLOCK}{_ZONE})?", re.ASCII)
_COUNT: Final = re.compile(r"-?\d{1,19}(?:\.\d{1,20})?(?:[eE][+]?\d{1,2})?", re.ASCII)


def milliseconds(texts: pa.StringArray) -> pa.TimestampArray:
    """Return whole milliseconds since 1970 as times."""
    return times(within(integers(texts), _LAST // _A_MILLISECOND), _A_MILLISECOND).view(TIME)


def seconds_and_nanoseconds(seconds: pa.Int64Array, nanoseconds: pa.Int64Array) -> pa.TimestampArray:
    """Return seconds since 1970, and nanoseconds within them, as times."""
    whole = times(within(seconds, _LAST // _A_SECOND), _A_SECOND)
    parts = within(nanoseconds, _A_SECOND - 1, 0)
    return pc.add(whole, parts.fill_null(0) if parts.null_count else parts).view(TIME)


def iso_times(texts: pa.StringArray) -> pa.TimestampArray:
    """Return times as in RFC 3339, with or without a zone; a blank may replace the T, and a comma the point."""
    zoned = _cast(texts, TIME)
    if zoned is not None:
        return zoned
    naive = _cast(pc.replace_substring(texts, ",", "."), _NAIVE)
    return _one_by_one(texts, iso_time) if naive is None else naive.view(TIME)


def access_times(texts: pa.StringArray) -> pa.TimestampArray:
    """Return times as Apache writes them, ``[15/Jun/2025:18:14:04 +0000]``, with or without brackets."""
    return _one_by_one(texts, access_time)


def any_times(texts: pa.StringArray) -> pa.TimestampArray:
    """Return times in any of these forms; a count since 1970 has the unit that its size suggests."""
    found = _cast(texts, TIME)
    return found if found is not None else _one_by_one(texts, _any_time)


@lru_cache(maxsize=_KEPT)
def iso_time(text: str) -> int | None:
    """Return one time of RFC 3339 and its relatives, in nanoseconds since 1970; None if it is none."""
    found = _ISO.fullmatch(text.strip())
    return None if found is None else _nanoseconds(found, int(found["m"]))


@lru_cache(maxsize=_KEPT)
def access_time(text: str) -> int | None:
    """Return one time of Apache in nanoseconds since 1970; None if it is none."""
    found = _ACCESS.fullmatch(text)
    return None if found is None else _nanoseconds(found, _MONTHS.get(found["b"], 0))


def count_time(text: str) -> int | None:
    """Return a count since 1970 in nanoseconds; None if it is none."""
    if not _COUNT.fullmatch(text):
        return None
    count = Decimal(text)
    unit = next((unit for limit, unit in _UNITS if abs(count) < limit), 1)
    return _in_range(int(count * unit))


def _nanoseconds(found: re.Match[str], month: int) -> int | None:
    try:
        hour, minute, second = (int(found[name] or 0) for name in "HMS")
        whole = datetime(int(found["Y"]), month, int(found["d"]), hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    seconds = (whole - _EPOCH) // timedelta(seconds=1)
    shift = int(found["hours"] or 0) * 3_600 + int(found["minutes"] or 0) * 60
    seconds += shift if found["sign"] == "-" else -shift
    return _in_range(seconds * _A_SECOND + int((found["f"] or "0")[:9].ljust(9, "0")))


def _any_time(text: str) -> int | None:
    return next((time for time in (iso_time(text), access_time(text), count_time(text)) if time is not None), None)


def _cast(texts: pa.StringArray, kind: pa.DataType) -> pa.TimestampArray | None:
    """Return texts as times; None if one is none. Failing takes long, so a few are tried first."""
    try:
        texts.slice(0, _FEW).cast(kind)
        return texts.cast(kind)
    except pa.ArrowInvalid:
        return None


def _in_range(nanoseconds: int) -> int | None:
    return nanoseconds if -_LAST <= nanoseconds <= _VERY_LAST else None


def _one_by_one(texts: pa.StringArray, parse: Callable[[str], int | None]) -> pa.TimestampArray:
    """Parse each distinct text."""
    words = texts.dictionary_encode()
    found = [parse(text) for text in words.dictionary.to_pylist()]
    return pa.array(found, pa.int64()).take(words.indices).view(TIME)
