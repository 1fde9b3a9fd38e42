"""What a reader must find in application logs: every line with its position, the kind of row it becomes, and its fields.

Made from the same values as the text, without any parser. Columns that rows have too are called as they are there. The
generation is left out, since storage determines it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import pyarrow as pa

from libs.common.rows.row_type import WORD

_TIME: Final = pa.timestamp("ns", tz="UTC")


class LineKind(StrEnum):
    """The type of the row that a line becomes."""

    APPLICATION = "application"
    HTTP = "http"  # a request that a server or program answered
    PROXY = "proxy"  # a request that passed a proxy


class SkipReason(StrEnum):
    """Why a line becomes no row, though nothing is wrong with it."""

    BLANK_LINE = "blank_line"
    BLANK_MESSAGE = "blank_message"  # white space
    NO_REQUEST = "no_request"  # the connection ended before there was a request: "-"
    NOT_HTTP = "not_http"  # another protocol
    UNKNOWN_METHOD = "unknown_method"  # not one of the nine of HTTP


LOG_TRUTH_SCHEMA: Final = pa.schema(
    [
        ("blob", WORD),
        ("line_offset", pa.int64()),  # in the decoded text
        ("line_length", pa.int32()),  # with its newline
        # Of the first line of the row: a stack trace has several lines, which are one row if they arrive in one segment.
        ("row_offset", pa.int64()),
        ("row_type", WORD),  # `LineKind`; null: skipped
        ("skipped", WORD),  # `SkipReason`
        ("shape", WORD),  # `pods.LineShape`
        ("time", _TIME),  # as the program states it in an exact form, otherwise as the collector does
        ("observed_time", _TIME),  # as the collector states it
        ("service", WORD),  # the selector; null: no selector takes the blob
        ("namespace", WORD),
        ("pod", WORD),
        ("container", WORD),
        ("container_id", WORD),
        ("stream", WORD),
        ("severity_text", WORD),
        ("logger", WORD),
        ("thread", WORD),
        ("correlation_id", pa.string()),
        ("body", pa.string()),  # of a stack trace: all its lines
        ("exception_type", WORD),
        ("exception_message", pa.string()),
        ("http_request_method", WORD),
        ("url_path", pa.string()),
        ("url_query", pa.string()),
        ("network_protocol_version", WORD),
        ("http_response_status_code", pa.uint16()),
        ("http_response_body_size", pa.int64()),
        ("response_time", pa.int64()),  # microseconds
        ("client_address", pa.string()),
        ("remote_user", WORD),
        ("user_agent", WORD),
        ("referer", pa.string()),
        ("server_address", WORD),
        ("cache_status", WORD),
    ]
)


def truth_batch(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Return lines as rows of `LOG_TRUTH_SCHEMA`; what a line does not state is null."""
    columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in LOG_TRUTH_SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=LOG_TRUTH_SCHEMA)
