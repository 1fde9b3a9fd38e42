"""Read application logs as a person would, with nothing of the generator's or the parser's: to check what they say."""

from __future__ import annotations

import gzip
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAME = re.compile(r".*/kubernetes/\d{8}\.([^_]+)_([^_]+)_(.+)-([0-9a-f]{64})\.gz")
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
_LEVEL = re.compile(r"TRACE|DEBUG|INFO|WARNING|WARN|ERROR|FATAL")
_OF_ALL_LINES = ("row_type", "time", "observed_time", "stream")
_CONTINUES = re.compile(r"\t|Caused by: ")


def members(data: bytes) -> list[bytes]:
    """Return the decoded text of each gzip member."""
    found = []
    while data:
        decoder = gzip.zlib.decompressobj(wbits=31)  # type: ignore[attr-defined]
        found.append(decoder.decompress(data))
        assert decoder.eof
        data = decoder.unused_data
    return found


def stated(truth: pa.Table) -> list[dict[str, Any]]:
    """Return the truth as `rows` gives it: in microseconds, without nulls and what the text does not say."""
    for number, name in ((truth.schema.get_field_index(name), name) for name in ("time", "observed_time")):
        column = pc.cast(truth[name], pa.timestamp("us", tz="UTC"), safe=False)
        truth = truth.set_column(number, name, column)
    rows = truth.drop_columns(["service", "shape"]).to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def rows(blob: str, data: bytes) -> list[dict[str, Any]]:
    """Return what there is to know about each line of a blob, without what is null."""
    matched = _NAME.fullmatch(blob)
    assert matched is not None
    source = dict(zip(("pod", "namespace", "container", "container_id"), matched.groups(), strict=True))
    found: list[dict[str, Any]] = []
    offset = 0
    head: dict[str, Any] | None = None  # of the lines that a container printed, the last one that is no part of a stack trace
    for line in gzip.decompress(data).splitlines(keepends=True):
        assert line.endswith(b"\n")
        known = _known(line, is_proxy=source["container"] == "proxy")
        said = known.pop("said", None)
        row = {**source, "blob": blob, "line_offset": offset, "line_length": len(line)}
        if head is not None and said is not None and _CONTINUES.match(said):
            head["body"] += f"\n{said}"
            row |= {"row_offset": head["row_offset"], **{name: known[name] for name in _OF_ALL_LINES}}
        else:
            row |= {**({"row_offset": offset} if "row_type" in known else {}), **known}
            head = row if said is not None else None
        found.append(row)
        offset += len(line)
    return found


def _known(line: bytes, *, is_proxy: bool) -> dict[str, Any]:
    """Return what a line says; of one that becomes no row, only why, and when it was collected."""
    if not line.strip():
        return {"skipped": "blank_line"}
    record = json.loads(line)
    collected = datetime.fromisoformat(record.get("@timestamp") or record["time"])
    logs = record.get("logs") or record.get("Logs")
    try:
        said = _printed(record, collected) if logs is None else _logged(logs, collected, is_proxy=is_proxy)
    except Skipped as skipped:
        return {"observed_time": collected, "skipped": str(skipped)}
    return {"observed_time": collected, **{name: value for name, value in said.items() if value not in (None, "-", "")}}


class Skipped(Exception):
    """A line becomes no row."""


def _printed(record: dict[str, Any], collected: datetime) -> dict[str, Any]:
    text = record["log"]
    if not text.strip():
        raise Skipped("blank_message")
    level = _LEVEL.search(text)
    known = {"time": collected, "stream": record["stream"], "logger": record["kubernetes"]["pod_name"]}
    return {"row_type": "application", **known, "severity_text": level[0] if level else "INFO", "body": text, "said": text}


def _logged(logs: dict[str, Any], collected: datetime, *, is_proxy: bool) -> dict[str, Any]:
    if "requestFirstLine" in logs:
        return _access(logs, collected, is_proxy=is_proxy)
    known = logs.get("contextMap", {})
    if "requestLine" in known:
        exchange = _exchange(known["requestLine"], known["statusCode"], known["bytesSent"], known["processMillis"])
        time = _EPOCH + timedelta(milliseconds=logs["timeMillis"])
        said = {"client_address": known["remoteHost"], "correlation_id": known.get("requestId")}
        return {"time": time, "row_type": "http", **said, **exchange}
    return _event(logs)


def _access(logs: dict[str, Any], collected: datetime, *, is_proxy: bool) -> dict[str, Any]:
    logged = datetime.strptime(logs["time"], "[%d/%b/%Y:%H:%M:%S %z]")
    assert timedelta() <= collected - logged < timedelta(seconds=2)
    server = logs.get("localServerName")
    return {
        "row_type": "proxy" if is_proxy and server else "http",
        "time": collected,
        "client_address": logs["remoteHost"],
        "remote_user": logs["remoteUser"],
        "user_agent": logs["userAgent"],
        "referer": logs["referer"],
        "server_address": server,
        "cache_status": logs.get("cache status"),
        "correlation_id": logs.get("requestId"),
        **_exchange(logs["requestFirstLine"], logs["status"], logs["bytes"], logs["responseTime"]),
    }


def _exchange(line: str, status: str, size: str, took: str) -> dict[str, Any]:
    if line == "-":
        raise Skipped("no_request")
    method, target, protocol = line.split(" ")
    name, version = protocol.split("/")
    if name != "HTTP":
        raise Skipped("not_http")
    if method not in _METHODS:
        raise Skipped("unknown_method")
    path, _, query = target.partition("?")
    return {
        "http_request_method": method,
        "url_path": path,
        "url_query": query,
        "network_protocol_version": version,
        "http_response_body_size": None if size == "-" else int(size),
        "http_response_status_code": int(status),
        "response_time": 1000 * int(took),
    }


def _event(logs: dict[str, Any]) -> dict[str, Any]:
    if not logs["message"].strip():
        raise Skipped("blank_message")
    instant, thrown = logs.get("instant"), logs.get("thrown", {})
    if instant:
        time = _EPOCH + timedelta(seconds=instant["epochSecond"], microseconds=instant["nanoOfSecond"] // 1000)
    else:
        time = _EPOCH + timedelta(milliseconds=logs["timeMillis"])
    return {
        "row_type": "application",
        "time": time,
        "severity_text": logs["level"],
        "body": logs["message"],
        "logger": logs["loggerName"],
        "thread": logs["thread"],
        "correlation_id": logs.get("contextMap", {}).get("requestId"),
        "exception_type": thrown.get("name"),
        "exception_message": thrown.get("message"),
    }
