"""What query engines make of files in folders: they read only the files of the folders that a query is about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from libs.common.rows.types.flows import FLOW_SCHEMA
from services.sinks.frame.registry import configured_sink
from tests.flows import START_MS, by_identity
from tests.hive import HOUR_MS, files, rows_of_hours, with_times
from tests.hive_writer import parts

HOURS = 6
YEAR_10000_MS = 253_402_300_800_000
CONTENT = [*rows_of_hours(HOURS), *with_times(rows_of_hours(1, blobs=4)[-2:], [START_MS, YEAR_10000_MS])]
THIS_HOUR = "day = '2026-05-01' AND hour = 14"


@pytest.fixture
def laid_out(tmp_path: Path) -> Path:
    """Give a directory with files of six hours and of no hour."""
    sink = configured_sink({"file": {"directory": str(tmp_path), "layout": "hive"}}, "file").sink
    sink.open()
    sink.write(parts(CONTENT))
    sink.close()
    assert len(files(tmp_path)) == HOURS + 1
    return tmp_path


@pytest.fixture
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """Give an engine of our own."""
    with duckdb.connect() as connection:
        yield connection


def source(directory: Path) -> str:
    """Return the table that a query is about."""
    return f"read_parquet('{directory}/day=*/hour=*/*.parquet', hive_partitioning = true)"


def without_folders(found: pa.Table) -> pa.Table:
    """Return the columns that are in the files, with their types."""
    found = found.drop_columns(["day", "hour"])
    return found.cast(
        pa.schema([FLOW_SCHEMA.field(name) if "time" in name else found.field(name) for name in found.column_names])
    )


def test_duckdb_reads_back_exactly_the_rows(laid_out: Path, database: duckdb.DuckDBPyConnection) -> None:
    """A query without a condition gives every row with its values, once."""
    for glob in (source(laid_out), f"read_parquet('{laid_out}/**/*.parquet', hive_partitioning = true)"):
        found = database.sql(f"SELECT * FROM {glob}").to_arrow_table()  # noqa: S608
        assert by_identity(without_folders(found)) == by_identity(CONTENT)


def test_duckdb_opens_the_files_of_one_folder_only(laid_out: Path, database: duckdb.DuckDBPyConnection) -> None:
    """A query about an hour is answered though the files of all other hours, but for the first, could not be read."""
    query = f"SELECT * FROM {source(laid_out)} WHERE {THIS_HOUR}"  # noqa: S608
    [(_, plan)] = database.execute(f"EXPLAIN ANALYZE {query}").fetchall()
    scanned = re.search(r"Scanning Files: (\d+)/(\d+)", plan)
    assert scanned is not None, plan
    assert scanned.groups() == ("1", str(HOURS + 1))
    for file in files(laid_out)[1:]:  # the first tells DuckDB the columns
        if "hour=14" not in file.parts:
            file.write_bytes(b"not a Parquet file")
    found = database.sql(query).to_arrow_table()
    expected = [row for row in CONTENT if START_MS + 2 * HOUR_MS <= row["time"] < START_MS + 3 * HOUR_MS]
    assert by_identity(without_folders(found)) == by_identity(expected)
    with pytest.raises(duckdb.Error):
        database.execute(f"SELECT sum(bytes_sent) FROM {source(laid_out)}").fetchall()  # noqa: S608


def test_rows_without_a_time_of_this_calendar_are_found_by_null(laid_out: Path, database: duckdb.DuckDBPyConnection) -> None:
    """What has no day and hour of its own has null for both."""
    found = database.execute(f"SELECT count(*) FROM {source(laid_out)} WHERE day IS NULL AND hour IS NULL").fetchall()  # noqa: S608
    assert found == [(1,)]


def test_arrow_reads_the_folders_as_columns(laid_out: Path) -> None:
    """Arrow's datasets find day and hour, prune by them, and read back the rows."""
    dataset = ds.dataset(laid_out, format="parquet", partitioning="hive", exclude_invalid_files=False)
    assert by_identity(without_folders(dataset.to_table())) == by_identity(CONTENT)
    one = ds.field("day") == "2026-05-01"
    assert dataset.to_table(filter=one).num_rows == len(CONTENT) - 1
