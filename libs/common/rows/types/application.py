"""Application logs: one row is one record that a program or a service wrote about itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pyarrow as pa

from libs.common.rows.row_type import WORD, Column, RowType
from libs.common.rows.types.log_columns import NOT_STATED, POSITION, REST, SOURCE, TIMES, TRACE

APPLICATION: Final = RowType(
    name="application",
    version=1,
    description=(
        "One row is one record of an application log: log4j2 JSON, a line of a container, other JSON, logfmt, plain text, or a "
        "log of an Azure service. Lines of a stack trace that were written one by one are one row."
    ),
    columns=(
        *TIMES,
        Column(
            "severity_text", WORD, "level, as the log spells it; `INFO` if a container's line names none", null_means=NOT_STATED
        ),
        Column(
            "severity_number",
            pa.uint8(),
            "severity in OpenTelemetry's numbers: 1 trace, 5 debug, 9 info, 13 warning, 17 error, 21 fatal; others between",
            null_means="the log states no level, or an unknown one",
        ),
        Column("body", pa.string(), "the message", null_means="the record has no message"),
        Column("logger", WORD, "logger; for a container's line its pod", null_means=NOT_STATED),
        Column("thread", WORD, "name of the thread", null_means=NOT_STATED),
        Column("thread_id", pa.int64(), "number of the thread", null_means=NOT_STATED),
        Column("exception_type", WORD, "class of the exception", null_means="no exception"),
        Column("exception_message", pa.string(), "its message", null_means="no exception, or it has none"),
        Column(
            "exception_stacktrace",
            pa.string(),
            "its stack trace: text or, if the log has one, a JSON array of frames",
            null_means="no exception, or the trace is part of `body`",
        ),
        Column("category", WORD, "category of an Azure log, such as `AuditEvent`", null_means="not a log of an Azure service"),
        Column("operation", WORD, "what was done: `operationName` of an Azure log", null_means=NOT_STATED),
        Column("client_address", pa.string(), "address of the client or caller", null_means=NOT_STATED),
        *TRACE,
        *SOURCE,
        *REST,
    ),
    topic="application",
    time="time",
    position=POSITION,
    example={
        "time": datetime(2026, 5, 1, 12, 0, 1, 123_000, tzinfo=UTC),
        "observed_time": datetime(2026, 5, 1, 12, 0, 1, 310_221, tzinfo=UTC),
        "severity_text": "ERROR",
        "severity_number": 17,
        "body": "order 4711 was not placed",
        "logger": "shop.orders.OrderService",
        "thread": "http-nio-8080-exec-3",
        "thread_id": 41,
        "exception_type": "java.lang.IllegalStateException",
        "exception_message": "no stock",
        "exception_stacktrace": "java.lang.IllegalStateException: no stock\n\tat shop.Orders.place(Orders.java:88)\n",
        "client_address": "10.1.7.20",
        "stream": "stdout",
        "format": "log4j2",
        "service": "api",
        "subscription": "cp2",
        "environment": "P1",
        "namespace": "default",
        "pod": "api-7c9d7f5b6d-x2x4q",
        "container": "platform",
        "container_id": "931d71bdaa7b",
        "host": "aks-nodepool1-12345678-vmss000000",
        "resource_attributes": '{"labels":{"app":"api"}}',
        "attributes": '{"logs":{"endOfBatch":false,"threadPriority":5}}',
        "blob": "cp2.P1/logs/kubernetes/20260501.api-7c9d7f5b6d-x2x4q_default_platform-931d71bdaa7b.gz",
        "generation": "5b1c0de9a3f47a26",
        "line_offset": 40_960,
        "line_index": 0,
    },
)
