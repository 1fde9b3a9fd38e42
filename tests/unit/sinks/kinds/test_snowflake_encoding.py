"""Rows as a Parquet file for Snowflake, read back by another reader of that format."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import ConfigError
from services.sinks.kinds.snowflake.encoding import parquet, wire_of
from tests.table_rows import EVERYTHING, everything, part

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def read(content: bytes) -> pa.Table:
    """Read a file without anything that only Arrow knows."""
    return pq.read_table(io.BytesIO(content))


def test_a_file_has_numbers_texts_and_truth_values() -> None:
    """Types that Snowflake reads in its own way do not occur: times, bytes and unsigned numbers."""
    schema = read(parquet(part(EVERYTHING, everything()).rows)).schema
    plain = {pa.bool_(), pa.int32(), pa.int64(), pa.decimal128(20, 0), pa.float32(), pa.float64(), pa.string()}
    assert {field.type for field in schema} <= plain
    assert schema.metadata is None


def test_every_value_is_there() -> None:
    """Numbers are as they were, times are counted in the unit of their column, bytes are hexadecimal; nulls are nulls."""
    content = everything()
    found = read(parquet(part(EVERYTHING, content).rows)).to_pylist()
    assert found == [{name: _as_sent(value) for name, value in row.items()} for row in content]


def _as_sent(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


@given(st.lists(st.none() | st.binary(max_size=20)), st.integers(0, 5))
def test_bytes_are_hexadecimal_wherever_they_begin(values: list[bytes | None], start: int) -> None:
    """Any bytes, in a column that is part of another one, come back."""
    table = pa.table({"b": pa.array(values, pa.binary())}).slice(start)
    found = read(parquet(table)).column("b").to_pylist()
    assert [None if value is None else bytes.fromhex(value) for value in found] == values[start:]


@pytest.mark.parametrize("unit", _PER_SECOND)
def test_sql_counts_in_the_unit_of_the_column(unit: str) -> None:
    """The expression that makes the time knows how many digits follow the second."""
    wire = wire_of(pa.timestamp(unit, tz="UTC"), "time")
    digits = len(str(_PER_SECOND[unit])) - 1
    assert (wire.sql, wire.value.format("x")) == (f"TIMESTAMP_LTZ({digits})", f"TO_TIMESTAMP_LTZ(x, {digits})")


def test_lists_have_no_column() -> None:
    """What no column takes is told by its name."""
    with pytest.raises(
        ConfigError, match=r"columns: tags is of type list.*, which has no counterpart in a table: leave it out"
    ):
        wire_of(pa.list_(pa.string()), "tags")
