"""Snapshots: one row is one record that was made from the answer of an HTTP source, polled at intervals."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pyarrow as pa

from libs.common.rows.row_type import WORD, Column, PositionColumns, RowType

SNAPSHOTS: Final = RowType(
    name="snapshots",
    version=1,
    description=(
        "One row is one record from an HTTP source that is polled at intervals: the whole answer, or one of the items in it. "
        "The rows of one answer share all columns but `record` and `item`. Answers that are refused are "
        "[dead letters](dead_letters.md) instead; unchanged ones may have no row."
    ),
    columns=(
        Column("time", pa.timestamp("ms", tz="UTC"), "when the source was asked", nullable=False),
        Column("source", WORD, "name of the source, as configured", nullable=False),
        Column(
            "record",
            pa.string(),
            "the record, a JSON object: `timestamp` (the row's time as milliseconds since 1970, unless the answer has a member "
            "of that name) and the bytes of the answer as they were. Its values may have line breaks between them, which mean "
            "nothing in JSON: to write one record a line, replace `\\n` and `\\r` with spaces. An item is written anew",
            nullable=False,
        ),
        Column(
            "url",
            WORD,
            "the address that was asked, without user, query and fragment, which may hold secrets",
            nullable=False,
        ),
        Column("http_response_status_code", pa.uint16(), "status of the answer", nullable=False),
        Column(
            "response_time", pa.int64(), "time from the request to the end of the answer", nullable=False, unit="microseconds"
        ),
        Column("answer_size", pa.int64(), "length of the answer, decompressed", nullable=False, unit="bytes"),
        Column(
            "answer_hash",
            pa.string(),
            "SHA-256 of the answer's bytes, 64 hex digits: equal ones are of equal answers",
            nullable=False,
        ),
        Column(
            "run",
            WORD,
            "the period in which the answers of the source are numbered on; it ends only if the recorders lose their state",
            nullable=False,
        ),
        Column("sequence", pa.int64(), "number of the answer in its run, from 0", nullable=False),
        Column(
            "item", pa.int32(), "number of the item in its answer, from 0; 0 if the record is the whole answer", nullable=False
        ),
    ),
    topic="snapshots",
    time="time",
    position=PositionColumns("source", "run", "sequence", "item"),
    document="record",
    example={
        "time": datetime(2026, 5, 1, 12, 0, 5, 2_000, tzinfo=UTC),
        "source": "flowinfo",
        "record": (
            '{"timestamp":1777636805002,"flowinfo":[{"src_ip":16885952,"dst_ip":33663168,"src_port":50312,"dst_port":443}]}'
        ),
        "url": "http://127.0.0.1:8000/ndt/get_detected_flow_data",
        "http_response_status_code": 200,
        "response_time": 8_412,
        "answer_size": 71,
        "answer_hash": "3c2194ad896829e28116d13e5a1a7c583221d17b019dba66ccd763ce731870d8",
        "run": "1777636800001-9f3a61c2",
        "sequence": 1,
        "item": 0,
    },
)
