"""The peer for logs: what one would write first, with only the standard library and a dictionary per line.

It reads the same lines as the kernel, into the same columns. It checks nothing, and keeps nothing that has no column.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from libs.common.messages.segments import Segment


def rows(segment: Segment) -> list[dict[str, Any]]:
    """Return one dictionary per line."""
    labels = json.loads(segment.labels)
    found = []
    offset = segment.start
    for line in segment.data.splitlines(keepends=True):
        document = json.loads(line)
        log = document["logs"]
        row = _request(log) if "requestFirstLine" in log else _application(log)
        kubernetes = document["kubernetes"]
        observed = datetime.fromisoformat(document["@timestamp"])
        row.setdefault("time", observed)
        row.update(observed_time=observed, stream=document["stream"], blob=segment.blob, line_offset=offset, **labels)
        row.update(pod=kubernetes["pod_name"], namespace=kubernetes["namespace_name"], container=kubernetes["container_name"])
        found.append(row)
        offset += len(line)
    return found


def _request(log: dict[str, Any]) -> dict[str, Any]:
    method, target, protocol = log["requestFirstLine"].split(" ")
    path, _, query = target.partition("?")
    return {
        "http_request_method": method,
        "url_path": path,
        "url_query": query or None,
        "network_protocol_version": protocol.removeprefix("HTTP/"),
        "http_response_status_code": int(log["status"]),
        "http_response_body_size": None if log["bytes"] == "-" else int(log["bytes"]),
        "response_time": int(log["responseTime"]) * 1_000,
        "client_address": log["remoteHost"],
        "referer": None if log["referer"] == "-" else log["referer"],
        "user_agent": log["userAgent"],
        "server_address": log["localServerName"],
        "cache_status": None if log["cache status"] == "-" else log["cache status"],
    }


def _application(log: dict[str, Any]) -> dict[str, Any]:
    thrown = log.get("thrown") or {}
    return {
        "time": log["instant"]["epochSecond"] * 1_000_000_000 + log["instant"]["nanoOfSecond"],
        "severity_text": log["level"],
        "body": log["message"],
        "logger": log["loggerName"],
        "thread": log["thread"],
        "thread_id": log["threadId"],
        "exception_type": thrown.get("name"),
        "exception_message": thrown.get("message"),
        "exception_stacktrace": thrown.get("extendedStackTrace"),
        "client_address": log["contextMap"]["remoteAddr"],
    }
