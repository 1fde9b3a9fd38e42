"""Columns for values in JSON, at any sink: chosen values of snapshots as CSV, and in a table of SQLite."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from libs.common.errors import ConfigError
from libs.common.kafka.records import Inbound
from libs.common.rows.reading import reader_of
from libs.common.rows.types.snapshots import SNAPSHOTS
from libs.common.rows.wire import encode_rows
from services.sinks.frame.handler import RowHandler, SinkFeed
from services.sinks.frame.registry import configured_sink

FIELDS = {"src": "flow.src_ip", "path": "flow.path[*].node", "label": "flow.label", "bps": "flow.bps"}
RECORDS = (
    {"timestamp": 1, "flow": {"src_ip": "10.0.0.1", "path": [{"node": 1}, {"node": 2}], "label": "=1+1", "bps": 2.5}},
    {"timestamp": 2, "flow": {"src_ip": 'a "b", c\nd', "path": []}},
    {"timestamp": 3},
)


def stored(options: Mapping[str, Any]) -> None:
    """Write the records with a sink, twice, as after a crash."""
    configured = configured_sink({"mine": {"rows": "snapshots", "fields": FIELDS, **options}}, "mine")
    feed = SinkFeed("mine", SNAPSHOTS, reader_of(SNAPSHOTS, lambda _: "id"), configured.steps)
    example = SNAPSHOTS.example_table.to_pylist()[0]
    rows = [example | {"record": json.dumps(record), "item": item} for item, record in enumerate(RECORDS)]
    data = encode_rows(SNAPSHOTS, pa.RecordBatch.from_pylist(rows, schema=SNAPSHOTS.schema)).to_pybytes()
    handler = RowHandler(configured.sink, feed)
    handler.open()
    for offset in range(2):
        assert list(handler.handle([Inbound("Recorder.Snapshots", 0, offset, 0, None, data, ())]).rejected) == []
    handler.tick()
    handler.close()


def test_chosen_values_of_snapshots_become_a_csv_file(tmp_path: Path) -> None:
    """With a header; quoted where it is needed; missing values are empty, nested ones JSON; no cell is a formula."""
    stored(
        {
            "kind": "file",
            "directory": str(tmp_path),
            "format": "csv",
            "columns": ["time"],
            "rename": {"bps": "bits per second"},
            "formula_safe": True,
            "rotate_rows": 3,
        }
    )
    (file,) = tmp_path.glob("*.csv")
    assert file.read_text().splitlines()[1] == '2026-05-01T12:00:05.002Z,10.0.0.1,"[1,2]",\'=1+1,2.5'
    with file.open(newline="") as lines:
        rows = list(csv.reader(lines))
    assert rows[0] == ["time", "src", "path", "label", "bits per second"]
    assert [row[1:] for row in rows[1:]] == [
        ["10.0.0.1", "[1,2]", "'=1+1", "2.5"],
        ['a "b", c\nd', "[]", "", ""],
        ["", "", "", ""],
    ]


def test_chosen_values_of_snapshots_are_columns_of_a_table(tmp_path: Path) -> None:
    """Of SQLite, beside those that tell rows apart; the record itself need not be there."""
    database = tmp_path / "snapshots.db"
    stored({"kind": "sqlite", "file": str(database), "columns": ["time"]})
    connection = sqlite3.connect(database)
    rows = connection.execute('SELECT "item", "src", "path", "label", "bps" FROM "snapshots" ORDER BY "item"').fetchall()
    names = [row[1] for row in connection.execute('PRAGMA table_info("snapshots")')]
    connection.close()
    assert rows == [(0, "10.0.0.1", "[1,2]", "=1+1", "2.5"), (1, 'a "b", c\nd', "[]", None, None), (2, None, None, None, None)]
    assert "record" not in names


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rows": "flows", "fields": {"a": "b"}}, r"sinks\.mine\.fields: rows of type flows have no column with JSON"),
        ({"fields": {"a": "b["}}, r"sinks\.mine\.fields\.a is not a JMESPath expression"),
        ({"fields": {"a b": "c"}}, r"sinks\.mine\.fields"),
        ({"fields": {"source": "c"}}, r"sinks\.mine\.fields: source is a column of snapshots"),
        ({"fields": {"a": "b"}, "columns": ["time", "c"]}, r"sinks\.mine\.columns: unknown column c"),
    ],
)
def test_fields_that_cannot_work_are_refused(options: Mapping[str, Any], problem: str, tmp_path: Path) -> None:
    """By name, before anything is read."""
    with pytest.raises(ConfigError, match=problem):
        configured_sink({"mine": {"kind": "file", "rows": "snapshots", "directory": str(tmp_path), **options}}, "mine")
