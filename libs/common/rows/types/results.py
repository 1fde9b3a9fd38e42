"""Results of requests for configuration: one row is one answer of Azure Resource Manager, or the end of one call."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pyarrow as pa

from libs.common.rows.row_type import WORD, Column, PositionColumns, RowType

_TIME: Final = pa.timestamp("ms", tz="UTC")
_NO_ANSWER: Final = "not an answer with success"
_AT_THE_END: Final = "not the end of a call"

RESULTS: Final = RowType(
    name="results",
    version=1,
    description=(
        "One row is one answer to a call of a [request](../collection-requests.md): one page of a list, or one resource. "
        "After its answers, or instead of them, each call has one row of kind `end`, which says whether they are complete. "
        "If the link to a page expires, the list is read again from its first page: then only rows with the `attempt` of the "
        "`end` count."
    ),
    columns=(
        Column("time", _TIME, "when Azure answered, or the call ended", nullable=False),
        Column("message_id", pa.string(), "id of the request", nullable=False),
        Column("correlation_id", pa.string(), "the sender's own id", null_means="the request has none"),
        Column("request_index", pa.int32(), "number of the call in the request, from 0", nullable=False),
        Column("kind", WORD, "`answer` or `end`", nullable=False),
        Column(
            "status",
            WORD,
            "`success`; at the end of a call also `partial_failure` (some answers, but not all) or `error` (no answers)",
            nullable=False,
        ),
        Column("data", pa.string(), "the answer: JSON as Azure sent it", null_means=_NO_ANSWER),
        Column(
            "errors",
            pa.string(),
            "what went wrong, as a JSON list of objects with `code`, `status`, `message` and `request_id`",
            null_means="nothing did",
        ),
        Column("service", WORD, "label of the call, as the request gives it", nullable=False),
        Column("method", WORD, "HTTP method", nullable=False),
        Column("path", pa.string(), "path of the call, filled and escaped", null_means="it cannot be filled"),
        Column("api_version", WORD, "version of the API", nullable=False),
        Column("http_status", pa.int32(), "status of the answer", null_means="there is no answer"),
        Column("azure_request_id", pa.string(), "Microsoft's name of the exchange", null_means="there is none"),
        Column("elements", pa.int64(), "resources or rows in the answer; 1 for what is no list", null_means=_NO_ANSWER),
        Column("pages", pa.int64(), "answers of this attempt", null_means=_AT_THE_END),
        Column("received", pa.int64(), "resources or rows in all answers of this attempt", null_means=_AT_THE_END),
        Column(
            "expected",
            pa.int64(),
            "how many there are in all",
            null_means="not the end of a call, or Azure does not say: only queries of Resource Graph have a total",
        ),
        Column(
            "waited_ms",
            pa.int64(),
            "time spent waiting for Azure's limits, and between attempts",
            nullable=False,
            unit="milliseconds",
        ),
        Column("attempt", pa.int32(), "how often the list was begun anew, from 0", nullable=False),
        Column("requested_at", _TIME, "when the request was made", null_means="the request does not state it"),
        Column("metadata", pa.string(), "`metadata` of the request, as JSON", null_means="the request has none"),
        Column("source", WORD, "the call: id of the request, slash, number of the call", nullable=False),
        Column("generation", WORD, "id of the call's content, dot, attempt", nullable=False),
        Column("answer_number", pa.int64(), "number of the answer in its attempt, from 0; the end comes last", nullable=False),
        Column(
            "part", pa.int32(), "number of the part of an answer that is too large for one message; otherwise 0", nullable=False
        ),
    ),
    topic="collection_results",
    time="time",
    position=PositionColumns("source", "generation", "answer_number", "part"),
    document="data",
    example={
        "time": datetime(2026, 5, 1, 12, 0, 1, 250_000, tzinfo=UTC),
        "message_id": "0b8f4a9e-5a0e-4f5b-9a36-2c1f6f0f4e11",
        "correlation_id": "inventory-42",
        "request_index": 0,
        "kind": "answer",
        "status": "success",
        "data": '{"value":[{"id":"/subscriptions/0/resourceGroups/shop/providers/Microsoft.Compute/virtualMachines/web-1"}]}',
        "service": "compute",
        "method": "GET",
        "path": "/subscriptions/0/providers/Microsoft.Compute/virtualMachines",
        "api_version": "2024-07-01",
        "http_status": 200,
        "azure_request_id": "f0c1a7de-3f6f-4b5e-9d55-0f4b9a3b8a01",
        "elements": 1,
        "waited_ms": 0,
        "attempt": 0,
        "requested_at": datetime(2026, 5, 1, 12, tzinfo=UTC),
        "source": "0b8f4a9e-5a0e-4f5b-9a36-2c1f6f0f4e11/0",
        "generation": "74b85ece6cfd2c07270433ed3431836f.0",
        "answer_number": 0,
        "part": 0,
    },
)
