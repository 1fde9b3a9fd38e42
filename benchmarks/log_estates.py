"""The estates of logs: application logs and access logs of proxies, as a collector for containers writes them.

Each line is JSON of about a kilobyte: what a program logged, and what the collector knows of the container. A blob holds the
lines of one container; segments have the size of ingest's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from benchmarks.estates import Data
from libs.common.messages.segments import Segment, SegmentFormat
from libs.common.settings.ingest import IngestSettings

APPLICATION: Final = "application logs"
PROXY: Final = "proxy logs"
FOLLOWED: Final = "proxy logs with ids"

_PODS: Final = 20
_WITH_QUERY, _WITH_BODY, _WITH_REFERER = 0.4, 0.9, 0.6  # shares of requests
_START: Final = 1_777_636_800  # 2026-05-01T12:00:00Z
_METHODS: Final = ("GET",) * 8 + ("POST", "HEAD")
_STATUSES: Final = ("200",) * 16 + ("304", "404", "500")
_CACHE: Final = ("hit", "miss", "-")
_AGENTS: Final = tuple(
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
    for version in range(90, 140)
)
_LOGGERS: Final = tuple(
    f"com.shop.{package}.{name}Service" for package in ("orders", "carts", "search", "users") for name in ("Default", "Cached")
)
_LEVELS: Final = ("INFO",) * 16 + ("WARN", "WARN", "DEBUG", "ERROR")
_TRACE: Final = "java.lang.IllegalStateException: no stock\n" + "".join(
    f"\tat com.shop.orders.DefaultService.place{number}(DefaultService.java:{number * 17})\n" for number in range(1, 12)
)

_Log = Callable[[random.Random, int], dict[str, Any]]


def application(lines: int) -> Data:
    """Return lines of log4j2's JSON, one in twenty with a stack trace."""
    return _data(APPLICATION, lines, _application, "platform", "api")


def proxy(lines: int) -> Data:
    """Return lines of Apache's access log as JSON."""
    return _data(PROXY, lines, _request, "proxy", "apache2-igc")


def followed(lines: int) -> Data:
    """Return the same lines with correlation ids, so that each is a span as well."""
    return _data(
        FOLLOWED,
        lines,
        lambda chance, number: {**_request(chance, number), "requestId": f"{number:032x}"},
        "proxy",
        "apache2-igc",
    )


def _data(name: str, lines: int, log: _Log, container: str, service: str) -> Data:
    chance = random.Random(7)
    segments: list[Segment] = []
    for pod in range(_PODS):
        source = _kubernetes(pod, container, service)
        share = lines // _PODS + (pod < lines % _PODS)
        blob = f"bench.local/logs/kubernetes/20260501.{source['pod_name']}_default_{container}-{source['docker_id']}.gz"
        labels = {"service": service, "subscription": "bench", "environment": "local", "pod": source["pod_name"]}
        texts = (_line(log(chance, number), source, number) for number in range(share))
        segments += _segments(blob, texts, json.dumps(labels).encode())
    return Data(name, (), tuple(segments), lines)


def _segments(blob: str, lines: Iterator[bytes], labels: bytes) -> Iterator[Segment]:
    start, ordinal, size = 0, 0, 0
    pending: list[bytes] = []
    limit = IngestSettings().segment_bytes
    for line in lines:
        if size + len(line) > limit:
            yield _segment(blob, (start, ordinal), b"".join(pending), labels)
            start, ordinal, pending, size = start + size, ordinal + 1, [], 0
        pending.append(line)
        size += len(line)
    if pending:
        yield _segment(blob, (start, ordinal), b"".join(pending), labels)


def _segment(blob: str, position: tuple[int, int], data: bytes, labels: bytes) -> Segment:
    start, ordinal = position
    return Segment(blob, "first", start, start + len(data), ordinal, SegmentFormat.JSON_LINES, data, None, labels)


def _line(log: dict[str, Any], source: dict[str, Any], number: int) -> bytes:
    seconds, millisecond = divmod(number * 7, 1_000)
    hour, minute, second = 12 + seconds // 3_600, seconds // 60 % 60, seconds % 60
    document = {
        "@timestamp": f"2026-05-01T{hour:02}:{minute:02}:{second:02}.{millisecond:03}{number % 1_000_000:06}Z",
        "stream": "stdout",
        "_p": "F",
        "logs": log,
        "record_date": "20260501",
        "kubernetes": source,
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _kubernetes(pod: int, container: str, service: str) -> dict[str, Any]:
    return {
        "pod_name": f"{service}-674b9bdb88-{pod:05x}",
        "namespace_name": "default",
        "pod_id": f"9b6ef0ab-0d8f-4a6c-9f7d-{pod:012x}",
        "pod_ip": f"10.244.0.{pod}",
        "labels": {"app.kubernetes.io/name": service, "pod-template-hash": "674b9bdb88"},
        "host": f"aks-nodepool1-12345678-vmss{pod % 4:06}",
        "container_name": container,
        "docker_id": f"{pod:064x}",
        "container_image": f"registry.shop.example/{service}:2.4.58",
    }


def _application(chance: random.Random, number: int) -> dict[str, Any]:
    level = chance.choice(_LEVELS)
    log: dict[str, Any] = {
        "instant": {"epochSecond": _START + number // 140, "nanoOfSecond": number * 7 % 1_000 * 1_000_000},
        "thread": f"http-nio-8080-exec-{chance.randrange(50)}",
        "level": level,
        "loggerName": chance.choice(_LOGGERS),
        "message": f"order {chance.randrange(10**8)} of user {chance.randrange(10**6)} placed in {chance.randrange(900)} ms",
        "endOfBatch": False,
        "loggerFqcn": "org.apache.logging.slf4j.Log4jLogger",
        "contextMap": {"remoteAddr": f"10.1.{chance.randrange(256)}.{chance.randrange(256)}", "sessionId": f"{number:032x}"},
        "threadId": chance.randrange(300),
        "threadPriority": 5,
    }
    if level == "ERROR":
        log["thrown"] = {
            "commonElementCount": 0,
            "localizedMessage": "no stock",
            "message": "no stock",
            "name": "java.lang.IllegalStateException",
            "extendedStackTrace": _TRACE,
        }
    return log


def _request(chance: random.Random, number: int) -> dict[str, Any]:
    path = f"/medias/images/{chance.randrange(16**8):08x}/{chance.randrange(1_000)}.jpg"
    query = f"?context=bWFzdGVyfGltYWdlc3w{chance.randrange(16**12):012x}" if chance.random() < _WITH_QUERY else ""
    seconds = number * 7 // 1_000
    return {
        "remoteHost": f"10.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(256)}",
        "identdUsername": "-",
        "remoteUser": "-",
        "time": f"[01/May/2026:{12 + seconds // 3_600:02}:{seconds // 60 % 60:02}:{seconds % 60:02} +0000]",
        "requestFirstLine": f"{chance.choice(_METHODS)} {path}{query} HTTP/1.1",
        "status": chance.choice(_STATUSES),
        "bytes": str(chance.randrange(100, 500_000)) if chance.random() < _WITH_BODY else "-",
        "responseTime": str(chance.randrange(1, 900)),
        "referer": f"https://www.shop.example/p/{chance.randrange(1_000)}" if chance.random() < _WITH_REFERER else "-",
        "userAgent": chance.choice(_AGENTS),
        "localServerName": "www.shop.example",
        "cache status": chance.choice(_CACHE),
    }
