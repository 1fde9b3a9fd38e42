"""Rows as OpenTelemetry log records in the protobuf encoding of OTLP, built column by column.

Objects of a protobuf library would cost a Python object for each attribute of each row. So the bytes of a record are put
together from fragments (`libs.common.rows.row_text`): whatever is the same in many rows, such as the attribute for one word of
a dictionary, is encoded once. What a record says is decided in `libs.common.rows.formats.otel`.

A field in protobuf is its tag (number and wire type) and a value; messages and texts begin with their size. A *varint* is an
integer in groups of seven bits, lowest first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.column_values import integers, validity, word_codes
from libs.common.rows.formats.json import json_texts, text_bytes
from libs.common.rows.formats.otel import RESOURCE, SCOPE, Severity, log_records
from libs.common.rows.row_text import (
    SMALL,
    CodedTexts,
    Codes,
    Ints,
    Numbers,
    Pieces,
    SizedBytes,
    Spelling,
    TextColumn,
    distinct,
    runs,
    when,
    where,
)
from libs.common.rows.row_type import RowType

# Tags, by message: number of the field times 8, plus the wire type (0: varint, 1: eight bytes, 2: with a size).
_REQUEST_RESOURCE_LOGS: Final = b"\x0a"
_RESOURCE_LOGS_RESOURCE: Final = b"\x0a"
_RESOURCE_LOGS_SCOPE_LOGS: Final = b"\x12"
_RESOURCE_ATTRIBUTE: Final = b"\x0a"
_SCOPE_LOGS_SCOPE: Final = b"\x0a"
_SCOPE_LOGS_RECORD: Final = b"\x12"
_SCOPE_NAME: Final = b"\x0a"
_RECORD_TIME: Final = b"\x09"
_RECORD_SEVERITY_NUMBER: Final = b"\x10"
_RECORD_SEVERITY_TEXT: Final = b"\x1a"
_RECORD_BODY: Final = b"\x2a"
_RECORD_ATTRIBUTE: Final = b"\x32"
_RECORD_IDS: Final = {"trace_id": b"\x4a", "span_id": b"\x52"}
_RECORD_OBSERVED: Final = b"\x59"
_RECORD_EVENT: Final = b"\x62"
_KEY: Final = b"\x0a"
_VALUE: Final = b"\x12"
_VALUE_TEXT: Final = b"\x0a"
_VALUE_BOOL: Final = b"\x10"
_VALUE_INT: Final = b"\x18"
_VALUE_DOUBLE: Final = b"\x21"

_LOW_BITS: Final = 7
_BYTE_BITS: Final = 8
_REMEMBERED: Final = 4_096  # numbers whose varints are remembered: most are sizes


def record_bytes(row_type: RowType, rows: pa.Table) -> SizedBytes:
    """Return each row as a field of ``ScopeLogs``: records may be put one after the other, in any number, into `request`."""
    records = log_records(row_type, rows)
    fixed = [records.severities.texts(_severity), _raw(_sized(_RECORD_EVENT, records.event.encode()))]
    columns: list[TextColumn] = [_times(records.time, records.observed), *fixed, *_texts(_body_head, records.body)]
    for name, digits in records.ids.items():
        columns += _id(_RECORD_IDS[name], digits)
    for name, column in records.attributes.items():
        columns += _attribute(name, column)
    return SizedBytes(columns, rows.num_rows, VARINTS, _record_heads)


def request(records: pa.ChunkedArray, resource: Mapping[str, str] | None = None) -> list[bytes | memoryview]:
    """Return an ``ExportLogsServiceRequest`` of some records as buffers; `resource` are attributes besides `RESOURCE`."""
    contents = [text_bytes(chunk).data for chunk in records.chunks]
    scope = _sized(_SCOPE_LOGS_SCOPE, _sized(_SCOPE_NAME, SCOPE.encode()))
    attributes = {**RESOURCE, **(resource or {})}
    described = b"".join(_sized(_RESOURCE_ATTRIBUTE, _pair(name, _text(value))) for name, value in attributes.items())
    logs = len(scope) + sum(map(len, contents))
    head = _sized(_RESOURCE_LOGS_RESOURCE, described) + _RESOURCE_LOGS_SCOPE_LOGS + varint(logs) + scope
    return [_REQUEST_RESOURCE_LOGS + varint(len(head) - len(scope) + logs) + head, *contents]


@lru_cache(_REMEMBERED)
def varint(number: int) -> bytes:
    """Return a number from 0 to 2**64 - 1 as a varint."""
    groups = []
    while True:
        low, number = number & 0x7F, number >> _LOW_BITS
        groups.append(low | (0x80 if number else 0))
        if not number:
            return bytes(groups)


def varints(values: Ints) -> pa.Array:
    """Return numbers as varints."""
    sizes = varint_sizes(values)
    ends = np.zeros(len(values) + 1, np.int32)
    np.cumsum(sizes, out=ends[1:])
    data = np.empty(int(ends[-1]), np.uint8)
    for place in range(int(sizes.max(initial=0))):
        chosen = np.flatnonzero(sizes > place)
        group = (values.view(np.uint64)[chosen] >> np.uint64(_LOW_BITS * place)).astype(np.uint8) & np.uint8(0x7F)
        data[ends[chosen] + place] = group | (sizes[chosen] > place + 1).astype(np.uint8) << np.uint8(7)
    return pa.Array.from_buffers(pa.binary(), len(values), [None, pa.py_buffer(ends), pa.py_buffer(data)])


def varint_sizes(values: Ints) -> Codes:
    """Return how many bytes numbers have as varints; negative ones have ten."""
    sizes = np.ones(len(values), np.uint32)
    for bits in range(_LOW_BITS, 64, _LOW_BITS):
        more = values.view(np.uint64) >= np.uint64(1 << bits)
        if not more.any():
            break
        sizes += more
    return sizes


@cache
def _small_varints() -> pa.Array:
    return varints(np.arange(SMALL))


VARINTS: Final = Spelling(_small_varints, varints)


# --- Parts of a record ---


def _record_heads(sizes: Ints) -> pa.Array:
    few, codes = distinct(sizes)
    return pa.array([_SCOPE_LOGS_RECORD + varint(size) for size in few.tolist()], pa.binary()).take(pa.array(codes))


def _times(time: Ints, observed: Ints) -> pa.Array:
    cells = np.empty(len(time), np.dtype([("a", "S1"), ("time", "<i8"), ("b", "S1"), ("observed", "<i8")]))
    cells["a"], cells["time"], cells["b"], cells["observed"] = _RECORD_TIME, time, _RECORD_OBSERVED, observed
    width = pa.binary(cells.dtype.itemsize)
    return pa.Array.from_buffers(width, len(cells), [None, pa.py_buffer(cells)]).cast(pa.binary())


def _severity(severity: Severity) -> str:
    number = _RECORD_SEVERITY_NUMBER + varint(severity.number) if severity.number else b""
    return _raw(number + (_sized(_RECORD_SEVERITY_TEXT, severity.text.encode()) if severity.text else b""))


def _id(tag: bytes, digits: pa.Array) -> list[TextColumn]:
    """Return ids, given as hex digits, as bytes."""
    present = validity(digits)
    text = text_bytes(pc.fill_null(digits, ""))  # a null may have bytes, too
    halves = np.where(text > ord("9"), text - (ord("a") - 10), text - ord("0"))
    content = (halves[0::2] << np.uint8(4)) | halves[1::2]
    size = len(content) // max(int(present.sum()), 1)
    ends = np.concatenate(([0], np.cumsum(present * size))).astype(np.int32)
    values = pa.Array.from_buffers(pa.binary(), len(digits), [None, pa.py_buffer(ends), pa.py_buffer(content)])
    return [when(_raw(tag + varint(size)), present), values]


def _body_head(size: int) -> bytes:
    value = _VALUE_TEXT + varint(size)
    return _RECORD_BODY + varint(len(value) + size) + value


def _attribute(name: str, column: pa.Array | Pieces) -> list[TextColumn]:
    if isinstance(column, Pieces) or pa.types.is_string(column.type):
        return _texts(lambda size: _head(name, _VALUE_TEXT + varint(size), size), column)
    kind = column.type
    if pa.types.is_dictionary(kind):
        return [_words(name, column)]
    if pa.types.is_integer(kind) and kind.bit_width > _BYTE_BITS:
        return _integers(name, column)
    return [_words(name, column.dictionary_encode())]


def _texts(head: Callable[[int], bytes], column: pa.Array | Pieces) -> list[TextColumn]:
    """Return texts after what precedes one of its size; nothing where there is none."""
    if isinstance(column, Pieces):
        few, codes = distinct(column.sizes())
        return [CodedTexts([_raw(head(size)) for size in few.tolist()], codes), *map(_bytes, column.columns)]
    present = validity(column)
    few, codes = distinct(integers(pc.binary_length(column)))
    return [where(present, CodedTexts([_raw(head(size)) for size in few.tolist()], codes)), _bytes(column)]


def _bytes(piece: str | CodedTexts | pa.Array) -> TextColumn:
    """Return a column of text as one of bytes."""
    if isinstance(piece, str):
        return _raw(piece.encode())
    if isinstance(piece, CodedTexts):
        return CodedTexts([_raw(text.encode()) for text in piece.texts], piece.codes)
    return piece.cast(pa.binary())


def _integers(name: str, column: pa.Array) -> list[TextColumn]:
    present, values = validity(column), integers(column)
    if (seldom := runs(values)) is not None:
        few, codes = seldom
        whole = [_raw(_head(name, _VALUE_INT + varint(value % 2**64))) for value in few.tolist()]
        return [where(present, CodedTexts(whole, codes))]
    sizes = varint_sizes(values)
    heads = [_raw(_head(name, _VALUE_INT, size)) for size in range(int(sizes.max()) + 1)]
    return [where(present, CodedTexts(heads, sizes)), Numbers(values, present)]


def _words(name: str, column: pa.DictionaryArray) -> TextColumn:
    texts = ["" if value is None else _raw(_head(name, value)) for value in _values(column.dictionary)]
    if column.indices.null_count or not texts:
        texts.append("")
    return CodedTexts(texts, word_codes(column))


def _values(words: pa.Array) -> list[bytes | None]:
    """Return each word as an ``AnyValue``."""
    kind = words.type
    encode: Callable[[Any], bytes]
    found: list[Any] = words.to_pylist() if not pa.types.is_timestamp(kind) else json_texts(words)
    if pa.types.is_timestamp(kind):
        encode = lambda text: _text(text[1:-1])  # noqa: E731 - without the quotes
    elif pa.types.is_string(kind):
        encode = _text
    elif pa.types.is_boolean(kind):
        encode = lambda value: _VALUE_BOOL + varint(int(value))  # noqa: E731
    elif pa.types.is_integer(kind):
        encode = lambda value: _VALUE_INT + varint(value % 2**64)  # noqa: E731
    elif pa.types.is_floating(kind):
        encode = lambda value: _VALUE_DOUBLE + struct.pack("<d", value)  # noqa: E731
    else:
        raise TypeError(f"no OTLP value for a column of type {kind}")
    return [None if value is None else encode(value) for value in found]


def _head(name: str, value: bytes, more: int = 0) -> bytes:
    """Return an attribute of which the last `more` bytes of the value are missing."""
    key = _sized(_KEY, name.encode())
    size = len(value) + more
    inner = key + _VALUE + varint(size) + value
    return _RECORD_ATTRIBUTE + varint(len(inner) + more) + inner


def _pair(name: str, value: bytes) -> bytes:
    return _sized(_KEY, name.encode()) + _sized(_VALUE, value)


def _text(text: str) -> bytes:
    return _sized(_VALUE_TEXT, text.encode())


def _sized(tag: bytes, content: bytes) -> bytes:
    return tag + varint(len(content)) + content


def _raw(data: bytes) -> str:
    """Return bytes as rows of bytes take them from columns of text."""
    return data.decode("latin-1")
