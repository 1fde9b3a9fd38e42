"""MessagePack made from columns is, byte for byte, what the library makes of the rows."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.rows.formats.json import json_documents
from libs.common.rows.formats.message_pack import PACKED, map_columns, packed_integers
from libs.common.rows.row_text import SMALL, RowBytes
from tests.property.test_json_text import column, expected, tables

INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(
    [edge + step for edge in (0, -32, 127, 255, 65_535, -128, -32_768, 2**31, -(2**31), 2**32) for step in (-1, 0, 1)]
)


def packed(columns: dict[str, pa.Array]) -> list[bytes]:
    """Return the map of each row."""
    table = pa.table(list(columns.values()), names=list(columns))
    return [one for some in RowBytes(map_columns(table), table.num_rows, PACKED).slices() for one in some.to_pylist()]


@given(tables())
def test_maps_are_those_of_the_library(columns: dict[str, pa.Array]) -> None:
    """Every map has the row's values, nested by the dots of the names, without nulls and in the order of the columns."""
    rows = pa.table(list(columns.values()), names=list(columns)).to_pylist()
    assert packed(columns) == [msgpack.packb(expected(row, nest=True)) for row in rows]


@given(tables(), st.lists(st.integers(1, 40), min_size=8, max_size=8), st.sampled_from([1, 50]))
def test_rows_that_seldom_change_are_none_the_less_rows(columns: dict[str, pa.Array], times: list[int], again: int) -> None:
    """However often a row is repeated, and whatever repeats with it, each map is that of its own row."""
    rows = len(next(iter(columns.values())))
    of_row = np.tile(np.repeat(np.arange(rows), times[:rows]), again)
    maps = packed(columns)
    assert packed({name: some.take(pa.array(of_row)) for name, some in columns.items()}) == [maps[row] for row in of_row]


@given(st.lists(INTEGERS))
def test_integers_take_their_shortest_form(values: list[int]) -> None:
    """Each integer is in the form that the library chooses."""
    assert packed_integers(np.array(values, np.int64)).to_pylist() == list(map(msgpack.packb, values))


def test_small_integers_are_at_their_places() -> None:
    """Whatever is looked up is what the library makes of it."""
    assert PACKED.small().to_pylist() == list(map(msgpack.packb, range(SMALL)))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@given(data=st.data())
def test_times_are_the_text_that_json_has(unit: str, data: st.DataObject) -> None:
    """A time is the same ISO 8601 text as in JSON, plain or as a word, also in years of five digits."""
    most = 2**62 if unit == "ns" else 300_000_000_000
    times: Any = data.draw(column(pa.timestamp(unit, tz="UTC"), st.integers(-most // 10, most), 5))
    words = times.dictionary_encode()
    documents = json_documents({"plain": times, "word": words}).to_pylist()
    maps = [msgpack.unpackb(one) for one in packed({"plain": times, "word": words})]
    assert maps == [json.loads(one) for one in documents]


@pytest.mark.parametrize("length", [0, 31, 32, 255, 256, 65_535, 65_536])
def test_texts_of_any_length(length: int) -> None:
    """A text has the header for its length in bytes, plain and as a word."""
    text = "ü" * (length // 2) + "x" * (length % 2)
    one = pa.array([text, "short", None])
    assert packed({"a": one, "b": one.dictionary_encode()}) == [
        msgpack.packb({} if value is None else {"a": value, "b": value}) for value in (text, "short", None)
    ]


def test_many_members_have_a_longer_header() -> None:
    """Beyond fifteen members the header of a map is longer, and each row counts its own."""
    columns = {f"c{number}": pa.array([number, None if number % 2 else 1], pa.int64()) for number in range(40)}
    rows = pa.table(list(columns.values()), names=list(columns)).to_pylist()
    assert packed(columns) == [msgpack.packb({name: value for name, value in row.items() if value is not None}) for row in rows]
