"""Columns in PostgreSQL's binary form are what they were."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from libs.common.errors import ConfigError
from services.sinks.kinds.postgres import copying
from services.sinks.kinds.postgres.copying import NUMBER, NUMBERS, Copying
from services.sinks.kinds.postgres.wire import wire_of
from tests.postgres_copy import read
from tests.table_rows import EVERYTHING, everything, part


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
    words = {"word", "source", "generation"}
    for made in (Copying(table), Copying(table.slice(0, 1))):
        assert {*made.names} == {*NUMBERS, *EVERYTHING.names} - words
        assert {*made.word_names} == {NUMBER, *words}


def test_rows_without_words_need_no_words() -> None:
    """Without a column of words there is nothing to copy but rows."""
    table = part(EVERYTHING, everything()).rows.select(["time", "text"])
    made = Copying(table)
    assert (made.names, made.word_names) == (("time", "text"), ())
    assert [row["text"] for row in read(table)] == [row["text"] for row in everything()]


def test_words_travel_once() -> None:
    """Each combination of words is in the data once, however many rows have it, and whether it changes seldom or often."""
    rows = [everything()[0] | {"source": f"s{n // 500}", "word": "even" if n % 2 else "odd", "index": n} for n in range(1_000)]
    table = part(EVERYTHING, rows).rows
    data = b"".join(map(bytes, Copying(table).words()))
    assert [data.count(word) for word in (b"s0", b"s1", b"even", b"odd")] == [1, 1, 1, 1]
    assert read(table) == list(map(as_copied, rows))


def test_a_type_that_no_table_has_is_refused_by_name() -> None:
    """A list has no counterpart."""
    with pytest.raises(ConfigError, match=r"columns: items is of type list.*: leave it out"):
        wire_of(pa.list_(pa.string()), "items")
