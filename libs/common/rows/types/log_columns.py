"""The columns that the row types of logs share: when, where from, what else the line says, and its position.

Names follow the OpenTelemetry log data model and semantic conventions, with underscores for dots.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from libs.common.rows.row_type import WORD, Column, PositionColumns

TIME: Final = pa.timestamp("ns", tz="UTC")
NOT_STATED: Final = "the log does not state it"

POSITION: Final = PositionColumns("blob", "generation", "line_offset", "line_index")

TIMES: Final = (
    Column("time", TIME, "when it happened, as the log states it", nullable=False),
    Column(
        "observed_time",
        TIME,
        "when it was collected: as the collector states it, otherwise when ingest wrote the line to Kafka",
        nullable=False,
    ),
)

TRACE: Final = (
    Column(
        "correlation_id", pa.string(), "id that the records of one operation or request have in common", null_means=NOT_STATED
    ),
    Column("trace_id", pa.string(), "id of the trace", null_means=NOT_STATED),
    Column("span_id", pa.string(), "id of the span", null_means=NOT_STATED),
)

_NOT_KNOWN: Final = "neither the line nor the labels of its source state it"

SOURCE: Final = (
    Column("stream", WORD, "`stdout` or `stderr`", null_means="not from a container, or not stated"),
    Column("format", WORD, "the format in which the line was read", nullable=False),
    Column("service", WORD, "service that wrote the log", null_means=_NOT_KNOWN),
    Column("subscription", WORD, "subscription of the source", null_means=_NOT_KNOWN),
    Column("environment", WORD, "environment of the source", null_means=_NOT_KNOWN),
    Column("namespace", WORD, "Kubernetes namespace", null_means=_NOT_KNOWN),
    Column("pod", WORD, "Kubernetes pod", null_means=_NOT_KNOWN),
    Column("pod_ip", WORD, "address of the pod", null_means=_NOT_KNOWN),
    Column("container", WORD, "container in the pod", null_means=_NOT_KNOWN),
    Column("container_id", WORD, "id of the container", null_means=_NOT_KNOWN),
    Column("host", WORD, "machine: the Kubernetes node, or the server's name", null_means=_NOT_KNOWN),
    Column("resource_id", WORD, "Azure resource that wrote the log", null_means=_NOT_KNOWN),
    Column(
        "resource_attributes",
        WORD,
        "what else is known about the source, as a JSON object: other members of `kubernetes`, other labels",
        null_means="nothing else",
    ),
)

REST: Final = (
    Column(
        "attributes",
        pa.string(),
        "everything in the line that has no column, as a JSON object with the names and the nesting of the line",
        null_means="nothing else",
    ),
    Column("blob", WORD, "blob that holds the line: account alias/container/name", nullable=False),
    Column(
        "generation",
        WORD,
        "version of the blob's content; it changes when the blob is replaced, shrunk or re-created",
        nullable=False,
    ),
    Column(
        "line_offset",
        pa.int64(),
        "offset in the blob of the (first) line; of a compressed blob, in its decompressed content",
        nullable=False,
        unit="bytes",
    ),
    Column("line_index", pa.int32(), "number of the piece, if a record was cut into several; otherwise 0", nullable=False),
)

REQUEST: Final = (
    Column("http_request_method", WORD, "`GET`, `POST`, ...", nullable=False),
    Column("url_path", pa.string(), "path of the request as logged, without the query", nullable=False),
    Column(
        "url_query", pa.string(), "query, without the question mark", null_means="the request had none, or it is not logged"
    ),
    Column("network_protocol_version", WORD, "version of HTTP: `1.0`, `1.1`, `2`, ...", null_means=NOT_STATED),
    Column("http_response_status_code", pa.uint16(), "status of the response", null_means=NOT_STATED),
    Column("http_response_body_size", pa.int64(), "size of the response without headers", unit="bytes", null_means=NOT_STATED),
    Column("http_response_size", pa.int64(), "size of the response with headers", unit="bytes", null_means=NOT_STATED),
    Column("http_request_size", pa.int64(), "size of the request with headers", unit="bytes", null_means=NOT_STATED),
    Column("response_time", pa.int64(), "how long it took to answer", unit="microseconds", null_means=NOT_STATED),
    Column("client_address", pa.string(), "address or name of the client", null_means=NOT_STATED),
    Column("remote_user", WORD, "name of the user, as authenticated by the server or else by `identd`", null_means=NOT_STATED),
    Column("user_agent", WORD, "header `User-Agent`", null_means=NOT_STATED),
    Column("referer", pa.string(), "header `Referer`", null_means=NOT_STATED),
    Column("server_address", WORD, "name of the (virtual) server", null_means=NOT_STATED),
    Column("server_port", pa.uint16(), "port of the server", null_means=NOT_STATED),
)
