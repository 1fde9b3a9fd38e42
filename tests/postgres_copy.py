"""The data of the postgres sink's two COPYs, read back: framed as PostgreSQL documents it, values by psycopg's own loaders."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from psycopg.adapt import Transformer
from psycopg.postgres import types
from psycopg.pq import Format

from services.sinks.kinds.postgres.copying import HEADER, NUMBER, NUMBERS, Copying
from services.sinks.kinds.postgres.wire import wire_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAMES = {"timestamp with time zone": "timestamptz", "numeric(20,0)": "numeric"}


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


def read(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table by way of their COPYs, put together as the server does it; times in microseconds."""
    made = Copying(table)
    kinds = {field.name: wire_of(field.type, field.name).sql for field in table.schema}
    kinds |= dict.fromkeys((NUMBER, *NUMBERS), "integer")
    words = _read(made.word_names, kinds, b"".join(map(bytes, made.words())))
    entries = {word.pop(NUMBER): word for word in words}
    assert len(entries) == len(words)
    rows = _read(made.names, kinds, b"".join(map(bytes, made.rows())))
    return [_whole(row, entries, table.column_names) for row in rows]


def _read(names: tuple[str, ...], kinds: dict[str, str], data: bytes) -> list[dict[str, Any]]:
    loaders = Transformer()
    oids = [types[_NAMES.get(kinds[name], kinds[name])].oid for name in names]
    found = [loaders.get_loader(oid, Format.BINARY) for oid in oids]
    return [
        {
            name: None if field is None else _plain(loader.load(field))
            for name, loader, field in zip(names, found, row, strict=True)
        }
        for row in fields(data)
    ]


def _whole(row: dict[str, Any], entries: dict[int, dict[str, Any]], names: list[str]) -> dict[str, Any]:
    one, other = (entries[row[name]] if name in row else {} for name in NUMBERS)
    assert all(one[name] is None or other[name] is None for name in one)
    words = {name: value if value is not None else other[name] for name, value in one.items()}
    return {name: words[name] if name in words else row[name] for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(microseconds=1)
    return int(value) if isinstance(value, Decimal) else value
