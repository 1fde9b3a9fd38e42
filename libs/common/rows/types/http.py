"""HTTP requests: one row is one request as the server that answered it logged it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from libs.common.rows.row_type import RowType
from libs.common.rows.types.log_columns import POSITION, REQUEST, REST, SOURCE, TIMES, TRACE

EXAMPLE_REQUEST: Final[Mapping[str, object]] = MappingProxyType(
    {
        "time": datetime(2026, 5, 1, 12, 0, 1, 123_000, tzinfo=UTC),
        "observed_time": datetime(2026, 5, 1, 12, 0, 1, 310_221, tzinfo=UTC),
        "http_request_method": "GET",
        "url_path": "/cart/items",
        "url_query": "page=2",
        "network_protocol_version": "1.1",
        "http_response_status_code": 200,
        "http_response_body_size": 5_120,
        "response_time": 12_000,
        "client_address": "10.1.7.20",
        "user_agent": "Mozilla/5.0",
        "stream": "stdout",
        "format": "access",
        "service": "api",
        "subscription": "cp2",
        "environment": "P1",
        "namespace": "default",
        "pod": "api-7c9d7f5b6d-x2x4q",
        "pod_ip": "10.244.0.7",
        "container": "platform",
        "blob": "cp2.P1/logs/kubernetes/20260501.api-7c9d7f5b6d-x2x4q_default_platform-931d71bdaa7b.gz",
        "generation": "5b1c0de9a3f47a26",
        "line_offset": 40_960,
        "line_index": 0,
    }
)

HTTP: Final = RowType(
    name="http",
    version=1,
    description=(
        "One row is one HTTP request from an access log: Apache JSON, requests that an application logs as log4j2 JSON, the "
        "common and combined formats, W3C (IIS, App Service), and other JSON or logfmt that states method and path. A request "
        "in a stream of proxy logs that names its server or the state of the cache is a row of type [proxy](proxy.md) instead."
    ),
    columns=(*TIMES, *REQUEST, *TRACE, *SOURCE, *REST),
    topic="http",
    time="time",
    position=POSITION,
    example=EXAMPLE_REQUEST,
)
