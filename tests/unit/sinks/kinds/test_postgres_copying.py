"""Columns in PostgreSQL's binary form, read back by a reader that follows its documentation."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from libs.common.errors import ConfigError
from services.sinks.kinds.postgres import copying
from services.sinks.kinds.postgres.copying import HEADER, Copying, wire_of
from tests.table_rows import EVERYTHING, everything, part

_MICROSECONDS_TO_2000 = 946_684_800_000_000
_NUMBERS = {"smallint": ">h", "integer": ">i", "bigint": ">q", "real": ">f", "double precision": ">d", "boolean": "?"}


def fields(data: bytes) -> Iterator[list[bytes | None]]:
    """Yield the fields of each row."""
    assert data.startswith(HEADER)
    at = len(HEADER)
    while True:
        (count,) = struct.unpack_from(">h", data, at)
        at += 2
        if count == -1:
            assert at == len(data)
            return
        row: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", data, at)
            at += 4
            row.append(None if length < 0 else data[at : at + length])
            at += max(length, 0)
        yield row


def value(kind: str, field: bytes | None) -> Any:
    """Return a field as a value; a time in microseconds since 1970."""
    if field is None:
        return None
    if kind in _NUMBERS:
        return struct.unpack(_NUMBERS[kind], field)[0]
    if kind.startswith("timestamp"):
        return struct.unpack(">q", field)[0] + _MICROSECONDS_TO_2000
    if kind.startswith("numeric"):
        count, weight, sign, scale, *digits = struct.unpack(f">hhHh{(len(field) - 8) // 2}h", field)
        assert (count, weight, sign, scale) == (len(digits), len(digits) - 1, 0, 0)
        return sum(digit * 10_000**place for place, digit in enumerate(reversed(digits)))
    return field if kind == "bytea" else field.decode()


def read(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table by way of its COPY data."""
    made = Copying(table)
    kinds = {field.name: wire_of(field.type, field.name).sql for field in table.schema}
    data = b"".join(bytes(chunk) for chunk in made.chunks())
    return [{name: value(kinds[name], one) for name, one in zip(made.names, row, strict=True)} for row in fields(data)]


def as_copied(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with times in microseconds and without NUL."""
    second, nanosecond = row["second"], row["nanosecond"]
    times = {
        "second": None if second is None else second * 1_000_000,
        "nanosecond": None if nanosecond is None else nanosecond // 1_000,
    }
    return row | times


def test_every_type_is_what_it_was() -> None:
    """Values of every type, their bounds and nulls come back; nanoseconds are cut off downwards."""
    assert read(part(EVERYTHING, everything()).rows) == list(map(as_copied, everything()))


def test_rows_of_several_chunks_are_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is encoded in steps is the same; so is a slice."""
    table = part(EVERYTHING, [row | {"index": n} for n in range(5) for row in everything()]).rows
    expected = read(table)
    monkeypatch.setattr(copying, "ROWS_AT_ONCE", 3)
    assert read(table) == expected
    assert read(table.slice(7, 9)) == expected[7:16]


@pytest.mark.parametrize("column", ["text", "word"])
def test_nul_becomes_its_symbol(column: str) -> None:
    """PostgreSQL has no text with NUL: its symbol takes the place, in text as in words."""
    (row,) = read(part(EVERYTHING, [everything()[0] | {column: "a\0b"}]).rows)
    assert row[column] == "a\u2400b"


def test_columns_without_nulls_need_no_group_of_their_own() -> None:
    """The order of columns depends on where nulls are; all columns are there."""
    table = part(EVERYTHING, everything()).rows
    assert sorted(Copying(table).names) == sorted(Copying(table.slice(0, 1)).names) == sorted(EVERYTHING.names)


def test_a_type_that_no_table_has_is_refused_by_name() -> None:
    """A list has no counterpart."""
    with pytest.raises(ConfigError, match=r"columns: items is of type list.*: leave it out"):
        wire_of(pa.list_(pa.string()), "items")
