"""What PostgreSQL's driver reads from the data of COPY is what the rows say, whatever they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sinks.kinds.postgres import copying
from tests.postgres_copy import read
from tests.property.test_json_text import TEXT, WORD, column

SMALL = {kind: (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64) for kind in (f"int{bits}",)}
COUNTS = {f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """At least one row, of any columns that a table can have; words repeat a little, a lot, or not at all."""
    rows = draw(st.integers(1, 8))
    kinds = [
        column(pa.string(), TEXT, rows),
        column(WORD, TEXT, rows),
        column(WORD, st.sampled_from(["in", "out", ""]), rows),
        column(pa.binary(), st.binary(max_size=8), rows),
        column(pa.float64(), st.floats(allow_nan=False), rows),
        column(pa.float32(), st.floats(allow_nan=False, width=32), rows),
        column(pa.bool_(), st.booleans(), rows),
        column(pa.timestamp("ms", tz="UTC"), st.integers(-(10**13), 10**13), rows),
        column(pa.dictionary(pa.int8(), pa.int16()), st.integers(-5, 5), rows),
        *(column(pa.type_for_alias(name), st.integers(*ends), rows) for name, ends in (SMALL | COUNTS).items()),
    ]
    columns = draw(st.lists(st.one_of(kinds), min_size=1, max_size=8))
    return pa.table(columns, names=[f"c{at}" for at in range(len(columns))])


def expected(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows; times in microseconds, text without NUL."""
    return [
        {name: _as_copied(table.schema.field(name).type, value) for name, value in row.items()}
        for row in _times_as_numbers(table).to_pylist()
    ]


def _times_as_numbers(table: pa.Table) -> pa.Table:
    columns = [one.cast(pa.int64()) if pa.types.is_timestamp(one.type) else one for one in table.columns]
    return pa.table(columns, names=table.column_names)


def _as_copied(kind: pa.DataType, value: Any) -> Any:
    if value is None:
        return None
    if pa.types.is_timestamp(kind):
        return value * 1_000
    return value.replace("\0", "\u2400") if isinstance(value, str) else value


@given(tables())
def test_rows_read_back_as_they_were(table: pa.Table) -> None:
    """Every value of every type comes back, nulls too, and text exactly, but for NUL."""
    assert read(table) == expected(table)


@pytest.mark.parametrize("at_once", [7, 8_192])
@given(table=tables(), times=st.lists(st.integers(1, 40), min_size=8, max_size=8), again=st.sampled_from([1, 3]))
def test_rows_that_seldom_change_are_none_the_less_rows(at_once: int, table: pa.Table, times: list[int], again: int) -> None:
    """However often a row is repeated, and whatever repeats with it, each row has its own values, in steps of any size."""
    of_row = np.tile(np.repeat(np.arange(len(table)), times[: len(table)]), again)
    whole = copying.ROWS_AT_ONCE
    copying.ROWS_AT_ONCE = at_once  # type: ignore[misc] # for every example; restored below
    try:
        found = read(table.take(pa.array(of_row)).combine_chunks())
    finally:
        copying.ROWS_AT_ONCE = whole  # type: ignore[misc]
    alone = expected(table)
    assert found == [alone[row] for row in of_row]
