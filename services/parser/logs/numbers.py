"""Numbers of logs as columns. Pure: what is no number, or does not fit, is null."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.parser.logs.texts import NO_TEXT, Texts

_INTEGER: Final = "^-?[0-9]{1,19}$"
_DECIMAL: Final = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,100})?(?:[eE][+-]?[0-9]{1,3})?")
_NO_NUMBER: Final = pa.scalar(None, pa.int64())
_LARGEST: Final = 2**63 - 1
_LARGEST_SMALL: Final = 2**16 - 1
_MOST_DIGITS: Final = 19  # of numbers that may be too large


def integers(texts: pa.StringArray) -> pa.Int64Array:
    """Return whole numbers."""
    if _are_plain(texts):
        return texts.cast(pa.int64())
    plain = pc.if_else(pc.match_substring_regex(texts, _INTEGER), texts, NO_TEXT)
    try:
        return plain.cast(pa.int64())
    except pa.ArrowInvalid:  # nineteen digits that are too many
        numbers = [None if text is None else int(text) for text in plain.to_pylist()]
        return pa.array([None if number is None or abs(number) > _LARGEST else number for number in numbers], pa.int64())


def scaled(texts: pa.StringArray, factor: int) -> pa.Int64Array:
    """Return decimal numbers times `factor`, without what remains behind the point."""
    whole = times(within(integers(texts), _LARGEST // factor), factor)
    if whole.null_count == texts.null_count:
        return whole
    others = texts.dictionary_encode()
    numbers = pa.array([_scaled(text, factor) for text in others.dictionary.to_pylist()], pa.int64())
    return pc.coalesce(whole, numbers.take(others.indices))


def small_numbers(texts: pa.StringArray) -> pa.UInt16Array:
    """Return whole numbers from 0 to 65535."""
    return within(integers(texts), _LARGEST_SMALL, 0).cast(pa.uint16())


def within(numbers: pa.Int64Array, last: int, first: int | None = None) -> pa.Int64Array:
    """Return numbers from `first` (by default ``-last``) to `last`, and null for others."""
    first = -last if first is None else first
    ends = pc.min_max(numbers)
    if (ends["min"].as_py() or 0) >= first and (ends["max"].as_py() or 0) <= last:
        return numbers
    fits = pc.and_(pc.less_equal(numbers, pa.scalar(last, pa.int64())), pc.greater_equal(numbers, pa.scalar(first, pa.int64())))
    return pc.if_else(fits, numbers, _NO_NUMBER)


def times(numbers: pa.Int64Array, factor: int) -> pa.Int64Array:
    """Return numbers times `factor`, for which they are small enough."""
    return pc.multiply(numbers, pa.scalar(factor, pa.int64()))


def _are_plain(texts: pa.StringArray) -> bool:
    """Return whether all texts consist of a few digits."""
    looked_at = Texts.of(texts)
    sizes = looked_at.sizes
    return (
        len(sizes) > 0
        and np.count_nonzero(sizes) == len(sizes) - texts.null_count
        and int(sizes.max()) < _MOST_DIGITS
        and looked_at.are_digits()
    )


def _scaled(text: str, factor: int) -> int | None:
    if not _DECIMAL.fullmatch(text):
        return None
    number = int(Decimal(text) * factor)
    return number if abs(number) <= _LARGEST else None
