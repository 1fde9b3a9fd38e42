"""Turn lines of tuples into flow columns, in one CSV pass for all tuples of a format. Pure.

The pass is all or nothing: if one tuple is invalid it returns None, and `examine` finds out which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from libs.common.rows.row_type import WORD
from libs.common.rows.types.flows import FLOW_SCHEMA
from services.parser.flows.addresses import normalised
from services.parser.flows.formats.layout import PROTOCOL_LETTERS, FieldKind, TupleLayout

FIRST_MILLISECOND: Final = 100_000_000_000
"""Times below this are seconds: it is in 1973 as milliseconds, and in 5138 as seconds."""
MAX_TIME: Final = 253_402_300_799_999  # the end of the year 9999
MAX_COUNTER: Final = 2**63 - 1

_COUNTERS: Final = ("packets_sent", "bytes_sent", "packets_received", "bytes_received")
_TYPES: Final = {
    FieldKind.TIME: pa.uint64(),
    FieldKind.ADDRESS: pa.string(),
    FieldKind.PORT: pa.uint16(),
    FieldKind.PROTOCOL: pa.uint8(),
    FieldKind.PROTOCOL_LETTER: WORD,
    FieldKind.WORD: WORD,
    FieldKind.COUNTER: pa.uint64(),
}
_MANDATORY_NUMBERS: Final = (FieldKind.TIME, FieldKind.PORT, FieldKind.PROTOCOL)
_PARSING: Final = pa.csv.ParseOptions(quote_char=False, double_quote=False, escape_char=False, ignore_empty_lines=True)
_NUMBER = re.compile(r"0*[0-9]{1,3}")
_UINT8_MAX: Final = 255
_BLOCK: Final = 65_536
_ZERO, _UPPER_X = ord("0"), ord("X")


def is_strict(text: bytearray) -> bool:
    """Return whether `text` contains nothing for which the CSV reader is too lenient: ``0x50``, or blanks around numbers."""
    if b" " in text or b"x" in text:
        return False
    data = np.frombuffer(text, np.uint8)
    # Block by block, to stay in the processor's cache; blocks overlap by one.
    blocks = (data[start : start + _BLOCK + 1] for start in range(0, len(data), _BLOCK))
    return not any(((block[:-1] == _ZERO) & (block[1:] == _UPPER_X)).any() for block in blocks)


def split(text: bytearray | pa.Buffer, types: dict[str, pa.DataType]) -> dict[str, pa.Array] | None:
    """Parse lines into columns of these names and types; None if the number of fields or a value does not match."""
    reading = pa.csv.ReadOptions(use_threads=False, column_names=list(types), block_size=len(memoryview(text)) + 1)
    converting = pa.csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=False, check_utf8=False)
    try:
        table = pa.csv.read_csv(pa.py_buffer(text), reading, _PARSING, converting)
    except pa.ArrowInvalid:
        return None
    return {name: _one(table.column(name)) for name in types}


def flow_columns(text: bytearray | pa.Buffer, rows: int, layout: TupleLayout) -> dict[str, pa.Array] | None:
    """Return the tuple columns of `FLOW_SCHEMA` for `rows` > 0 lines of valid UTF-8; None if a line is bad."""
    fields = split(text, {name: _TYPES[kind] for name, kind in layout.fields})
    # The reader skips empty lines (empty tuples), which results in fewer rows.
    if fields is None or len(fields["time"]) != rows:
        return None
    if any(fields[name].null_count for name in layout.of_kind(*_MANDATORY_NUMBERS)):
        return None
    checked = {
        "time": _times(fields["time"]),
        **_addresses({name: fields[name] for name in layout.of_kind(FieldKind.ADDRESS)}),
        "src_port": fields["src_port"],
        "dst_port": fields["dst_port"],
        "protocol": _protocols(fields["protocol"]),
        **{name: _counters(fields[name]) if name in fields else pa.nulls(rows, pa.int64()) for name in _COUNTERS},
    }
    if any(column is None for column in checked.values()):
        return None
    return checked | layout.coded(fields)


def protocol_number(text: str) -> int | None:
    """Return the IANA protocol number for a letter or number; None if there is none."""
    if text in PROTOCOL_LETTERS:
        return PROTOCOL_LETTERS[text]
    number = int(text) if _NUMBER.fullmatch(text) else _UINT8_MAX + 1
    return number if number <= _UINT8_MAX else None


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _times(column: pa.Array) -> pa.Array | None:
    values = column.to_numpy()
    if values.max() > MAX_TIME:
        return None
    if values.min() < FIRST_MILLISECOND:
        column = pa.array(np.where(values < FIRST_MILLISECOND, values * 1000, values))
    return column.view(FLOW_SCHEMA.field("time").type)


def _addresses(columns: Mapping[str, pa.Array]) -> dict[str, pa.Array | None]:
    addresses = normalised(list(columns.values()))
    return {name: None if found.null_count else found for name, found in zip(columns, addresses, strict=True)}


def _protocols(column: pa.Array) -> pa.Array | None:
    if not pa.types.is_dictionary(column.type):
        return column
    numbers = pa.array([protocol_number(text) for text in column.dictionary.to_pylist()], pa.uint8())
    return None if numbers.null_count else numbers.take(column.indices)


def _counters(column: pa.Array) -> pa.Array | None:
    highest = pc.max(column).as_py()
    return None if highest is not None and highest > MAX_COUNTER else column.view(pa.int64())
