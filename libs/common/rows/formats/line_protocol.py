r"""Rows as points in InfluxDB's line protocol, built column by column.

A point is a measurement, tags, fields and a time: ``flows,action=allow bytes_sent=840i,src_ip="10.0.0.4" 1777636800000000000``.
What is escaped follows the specification (a comma, an equals sign and a space in keys and tags, a quote and a backslash in text
fields). What the protocol cannot express is made visible instead, as in log lines:

- The protocol has no line breaks within a point: in text, one becomes the six characters ``\u000a``.
- In tags, so does every other control character, and a backslash before a comma, an equals sign, a space, another backslash or
  the end of the tag (``\u005c``): servers disagree about what it escapes there.
- A tag has no empty text: it is left out, as a null is. Of numbers, infinity and NaN are left out.

Times in fields are integers, in nanoseconds since 1970. Integers end in ``i``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.column_values import integers, time_words, validity, word_codes
from libs.common.rows.formats.json import text_bytes
from libs.common.rows.row_text import CodedTexts, Ints, Numbers, TextColumn, numbers, when
from libs.common.security.visible import visible_line

_BYTE_BITS: Final = 8
# Digits that turn a time in its own unit into nanoseconds: without multiplication, nothing can overflow.
_ZEROS: Final = {"s": "000000000", "ms": "000000", "us": "000", "ns": ""}
_ESCAPED_IN_KEY: Final = re.compile(r"[,= ]")
_ESCAPED_IN_MEASUREMENT: Final = re.compile(r"[, ]")
_UNCLEAR_BACKSLASH: Final = re.compile(r"\\(?=[,= \\]|\Z)")
_BACKSLASH: Final = r"\u005c"
_BREAK: Final = r"\\u000a"  # its backslash is escaped


def point_columns(
    measurement: str, tags: Mapping[str, pa.Array], fields: Mapping[str, pa.Array], nanoseconds: Ints
) -> list[TextColumn]:
    """Return one line per row, with its line ending, as columns for `RowText`.

    Tags are in the order of their names, as servers prefer. At least one field has no nulls.

    Raises:
        ValueError: if every field may be null.
        TypeError: if a column's type is not supported.
    """
    first = next((name for name, column in fields.items() if is_always_there(column)), None)
    if first is None:
        raise ValueError("a point needs a field that is never null")
    texts: list[TextColumn] = [_ESCAPED_IN_MEASUREMENT.sub(r"\\\g<0>", measurement)]
    texts += [_tag(f",{escaped_key(name)}=", tags[name]) for name in sorted(tags, key=str.encode)]
    texts += [" ", *_field(f"{escaped_key(first)}=", fields[first])]
    for name, column in fields.items():
        if name != first:
            texts += _field(f",{escaped_key(name)}=", column)
    return [*texts, " ", Numbers(nanoseconds, np.ones(len(nanoseconds), np.bool_)), "\n"]


def is_always_there(column: pa.Array) -> bool:
    """Return whether a column gives every row a field."""
    if pa.types.is_floating(column.type):
        return False
    if pa.types.is_dictionary(column.type):
        return not column.null_count and not column.dictionary.null_count and is_always_there(column.dictionary)
    return not column.null_count


def escaped_key(name: str) -> str:
    """Return the key of a tag or a field as it stands in a line."""
    return _ESCAPED_IN_KEY.sub(r"\\\g<0>", name)


def tag_text(value: str) -> str:
    """Return a tag's text, before what stands in it is escaped: without what the protocol cannot express."""
    return _UNCLEAR_BACKSLASH.sub(lambda _: _BACKSLASH, visible_line(value))


def field_text(value: str) -> str:
    """Return a text field's text in its quotes."""
    inside = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", _BREAK)
    return f'"{inside}"'


def tag_words(column: pa.Array) -> CodedTexts:
    """Return the texts of a tag, before what stands in them is escaped; empty where a row has no such tag."""
    words = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    return _coded(words, [tag_text(text) if text else "" for text in _plain_texts(words.dictionary)])


def _tag(key: str, column: pa.Array) -> CodedTexts:
    words = tag_words(column)
    texts = [key + _ESCAPED_IN_KEY.sub(r"\\\g<0>", text) if text else "" for text in words.texts]
    return CodedTexts(texts, words.codes)


def _plain_texts(values: pa.Array) -> list[str | None]:
    """Return values as text without quotes; None for null and for numbers that are none."""
    if pa.types.is_timestamp(values.type):
        seconds, ends = time_words(values)
        pairs = zip(seconds.codes.tolist(), ends.codes.tolist(), values.is_valid().to_pylist(), strict=True)
        return [seconds.texts[one] + ends.texts[other] if valid else None for one, other, valid in pairs]
    text = _text_of(values.type)
    return [None if _is_nothing(value) else text(value) for value in values.to_pylist()]


def _field(key: str, column: pa.Array) -> list[TextColumn]:
    kind = column.type
    if _is_often_the_same(kind):
        column, kind = (encoded := column.dictionary_encode()), encoded.type
    if pa.types.is_dictionary(kind):
        return [_coded(column, ["" if text is None else key + text for text in _field_texts(column.dictionary)])]
    present = validity(column)
    if pa.types.is_timestamp(kind):
        values = integers(column)
        zeros = _ZEROS[kind.unit]
        return [*numbers(key, values, present), when(zeros, present & (values != 0)), when("i", present)]
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        return [*numbers(key, integers(column), present), when("i", present)]
    if pa.types.is_string(kind):
        return [when(f'{key}"', present), _escaped_texts(column), when('"', present)]
    raise TypeError(f"no field has a value of type {kind}")


def _is_often_the_same(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_boolean(kind) or pa.types.is_floating(kind) or (pa.types.is_integer(kind) and kind.bit_width == _BYTE_BITS)
    )


def _coded(column: pa.DictionaryArray, texts: list[str]) -> CodedTexts:
    if column.indices.null_count or not texts:
        texts = [*texts, ""]
    return CodedTexts(texts, word_codes(column))


def _field_texts(values: pa.Array) -> list[str | None]:
    kind = values.type
    if pa.types.is_timestamp(kind):
        zeros = _ZEROS[kind.unit]
        each = values.cast(pa.int64()).to_pylist()
        return [None if value is None else f"{value}{zeros if value else ''}i" for value in each]
    text, end = _text_of(kind), "i" if pa.types.is_integer(kind) else ""
    quoted: Callable[[Any], str] = field_text if pa.types.is_string(kind) else lambda value: text(value) + end
    return [None if _is_nothing(value) else quoted(value) for value in values.to_pylist()]


def _text_of(kind: pa.DataType) -> Callable[[Any], str]:
    if pa.types.is_string(kind) or pa.types.is_integer(kind):
        return str
    if pa.types.is_floating(kind):
        return repr
    if pa.types.is_boolean(kind):
        return lambda value: "true" if value else "false"
    raise TypeError(f"no tag or field has a value of type {kind}")


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _escaped_texts(values: pa.Array) -> pa.Array:
    """Return texts as they stand in quotes; the same array if nothing needs escaping."""
    content = np.bincount(text_bytes(values), minlength=256)
    for character, instead in (("\\", "\\\\"), ('"', '\\"'), ("\n", _BREAK)):
        if content[ord(character)]:
            values = pc.replace_substring(values, pattern=character, replacement=instead)
    return values
