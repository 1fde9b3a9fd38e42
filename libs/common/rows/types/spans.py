"""Spans: one row is what one server did for a request that can be followed, as it logged it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pyarrow as pa

from libs.common.rows.row_type import WORD, Column, RowType
from libs.common.rows.types.http import EXAMPLE_REQUEST
from libs.common.rows.types.log_columns import NOT_STATED, POSITION, REQUEST, REST, SOURCE, TIME

_SHOWN: Final = frozenset({"http_request_method", "url_path", "http_response_status_code", "client_address", "server_address"})
REQUEST_OF_SPAN: Final = tuple(column for column in REQUEST if column.name in _SHOWN)
"""What a span says of its request; all of it is in the row of the request."""
_OF_REQUEST: Final = {column.name for column in (*REQUEST_OF_SPAN, *SOURCE, *REST)}

SPANS: Final = RowType(
    name="spans",
    version=1,
    description=(
        "One row is a span in the terms of OpenTelemetry: the part that one server had in a request that has a correlation id "
        "or the id of a trace. It is made from a row of type [http](http.md) or [proxy](proxy.md), which has the same position "
        "and says more. Spans with the same `trace_id` are of one trace. Ids are those of the line if it has them, otherwise "
        "[derived](../../explanation/traces.md), and the same whenever the line is read again."
    ),
    columns=(
        Column(
            "time",
            TIME,
            "when the request began: the time of its row, at which it was logged, less how long it took",
            nullable=False,
        ),
        Column("end_time", TIME, "when the request ended", null_means="the log does not state how long it took"),
        Column("trace_id", pa.string(), "id of the trace, 32 hex digits", nullable=False),
        Column("span_id", pa.string(), "id of the span, 16 hex digits", nullable=False),
        Column(
            "parent_span_id", pa.string(), "id of the span of whoever sent the request, 16 hex digits", null_means=NOT_STATED
        ),
        Column("name", WORD, "the method: a path is no name, since there may be any number of them", nullable=False),
        Column("kind", WORD, "kind of the span: always `server`", nullable=False),
        Column("status", WORD, "`error` if the server failed (5xx), otherwise `unset`", nullable=False),
        Column(
            "correlation_id",
            pa.string(),
            "id that the records of the request have in common",
            null_means="the line states the id of a trace only",
        ),
        Column("row_type", WORD, "type of the row of the request: `http` or `proxy`", nullable=False),
        *REQUEST_OF_SPAN,
        *SOURCE,
        *REST,
    ),
    topic="spans",
    time="time",
    position=POSITION,
    example={
        **{name: value for name, value in EXAMPLE_REQUEST.items() if name in _OF_REQUEST},
        "time": datetime(2026, 5, 1, 12, 0, 1, 111_000, tzinfo=UTC),
        "end_time": datetime(2026, 5, 1, 12, 0, 1, 123_000, tzinfo=UTC),
        "trace_id": "6f0b9a4d1c5e5b7f8d2a3c4e5f601728",
        "span_id": "3d8e1f0a9b7c5d2e",
        "name": "GET",
        "kind": "server",
        "status": "unset",
        "correlation_id": "4711-0815",
        "row_type": "http",
    },
)
