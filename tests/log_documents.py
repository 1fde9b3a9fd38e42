"""What a row of a log should look like as a record of OpenTelemetry and as an ECS document, written down row by row."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from libs.common.rows.row_type import RowType
from libs.common.rows.types.application import APPLICATION
from libs.common.rows.types.http import HTTP
from libs.common.rows.types.proxy import PROXY
from libs.common.rows.types.spans import SPANS
from tests.row_samples import document

LOGS = (APPLICATION, HTTP, PROXY, SPANS)

_ATTRIBUTES = {
    "client_address": "client.address",
    "container": "k8s.container.name",
    "container_id": "container.id",
    "environment": "deployment.environment.name",
    "exception_message": "exception.message",
    "exception_stacktrace": "exception.stacktrace",
    "exception_type": "exception.type",
    "host": "host.name",
    "http_request_method": "http.request.method",
    "http_request_size": "http.request.size",
    "http_response_body_size": "http.response.body.size",
    "http_response_size": "http.response.size",
    "http_response_status_code": "http.response.status_code",
    "logger": "otel.scope.name",
    "namespace": "k8s.namespace.name",
    "network_protocol_version": "network.protocol.version",
    "pod": "k8s.pod.name",
    "pod_ip": "k8s.pod.ip",
    "remote_user": "user.name",
    "resource_id": "cloud.resource_id",
    "server_address": "server.address",
    "server_port": "server.port",
    "service": "service.name",
    "stream": "log.iostream",
    "thread": "thread.name",
    "thread_id": "thread.id",
    "url_path": "url.path",
    "url_query": "url.query",
    "user_agent": "user_agent.original",
}
_FIELDS = {
    "body": "message",
    "client_address": "client.address",
    "container": "container.name",
    "container_id": "container.id",
    "end_time": "event.end",
    "environment": "service.environment",
    "exception_message": "error.message",
    "exception_stacktrace": "error.stack_trace",
    "exception_type": "error.type",
    "host": "host.name",
    "http_request_method": "http.request.method",
    "http_request_size": "http.request.bytes",
    "http_response_body_size": "http.response.body.bytes",
    "http_response_size": "http.response.bytes",
    "http_response_status_code": "http.response.status_code",
    "logger": "log.logger",
    "namespace": "orchestrator.namespace",
    "network_protocol_version": "http.version",
    "observed_time": "event.created",
    "operation": "event.action",
    "pod": "orchestrator.resource.name",
    "referer": "http.request.referrer",
    "remote_user": "user.name",
    "server_address": "url.domain",
    "server_port": "server.port",
    "service": "service.name",
    "severity_text": "log.level",
    "span_id": "span.id",
    "subscription": "cloud.account.name",
    "thread": "process.thread.name",
    "thread_id": "process.thread.id",
    "time": "@timestamp",
    "trace_id": "trace.id",
    "url_path": "url.path",
    "url_query": "url.query",
    "user_agent": "user_agent.original",
}
_OF_SPANS = {
    "kind": "blobtide.span.kind",
    "name": "blobtide.span.name",
    "parent_span_id": "blobtide.span.parent_id",
    "row_type": "blobtide.span.row_type",
    "status": "blobtide.span.status",
}
_ORIGIN = {"blob", "generation", "line_offset", "line_index"}
_IDS = {"trace_id": "[0-9a-fA-F]{32}", "span_id": "[0-9a-fA-F]{16}"}


def otel_record(row_type: RowType, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the record of a row says, but for its time and what identifies it."""
    flat = document(row_type, row)
    ids = {name: flat[name].lower() for name, digits in _IDS.items() if re.fullmatch(digits, flat.get(name, ""))}
    fields = {"time", "observed_time", "severity_text", "severity_number", "body", *ids}
    own = {name: value for name, value in flat.items() if name not in fields}
    return {
        "severity": (row["severity_number"] or 0, row["severity_text"] or "") if row_type is APPLICATION else (9, "INFO"),
        "ids": ids,
        "body": row["body"] if row_type is APPLICATION else None if row_type is SPANS else _request(row),
        "attributes": {_ATTRIBUTES.get(name, f"blobtide.{name}"): value for name, value in own.items()},
    }


def log_document(row_type: RowType, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ECS document of a row with dotted names."""
    flat = document(row_type, row)
    requests: dict[str, Any] = {}
    if row_type is not APPLICATION:
        requests = {"event.category": ["web"], "event.type": ["access"]}
        if row["correlation_id"] is not None:
            requests["http.request.id"] = flat.pop("correlation_id")
        if row_type is SPANS and row["end_time"] is not None and 0 <= row["end_time"] - row["time"] < 2**63:
            requests["event.duration"] = row["end_time"] - row["time"]
        if "response_time" in flat and 0 <= flat["response_time"] < 2**63 // 1_000:
            requests["event.duration"] = flat["response_time"] * 1_000
        flat.pop("response_time", None)
    addresses = {"client.ip": _address(row["client_address"]), "blobtide.log.pod_ip": _address(flat.pop("pod_ip", None))}
    account = re.match(r"/subscriptions/([^/]+)", row["resource_id"] or "", re.IGNORECASE)
    derived = {"cloud.account.id": account[1].lower() if account else None, **addresses}
    fields = {**_FIELDS, **_OF_SPANS} if row_type is SPANS else _FIELDS
    named = {fields.get(name, _own(name)): value for name, value in flat.items()}
    found = {"ecs.version": "8.17.0", "event.kind": "event", **named, **requests, **derived}
    return {name: value for name, value in found.items() if value is not None}


def _own(name: str) -> str:
    return f"blobtide.{name}" if name in _ORIGIN else f"blobtide.log.{name}"


def _address(text: str | None) -> str | None:
    try:
        return str(ipaddress.ip_address(text or "")) if "%" not in (text or "") else None
    except ValueError:
        return None


def _request(row: Mapping[str, Any]) -> str:
    target = row["url_path"] + ("" if row["url_query"] is None else f"?{row['url_query']}")
    status = "" if row["http_response_status_code"] is None else f" {row['http_response_status_code']}"
    return f"{row['http_request_method']} {target}{status}"
