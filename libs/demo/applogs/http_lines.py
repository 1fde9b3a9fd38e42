"""Requests: as Apache logs them, and as a Java program does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from libs.demo.applogs.pods import LineShape
from libs.demo.applogs.scene import NS_PER_SECOND, LogLine, Scene, milliseconds
from libs.demo.applogs.truth import LineKind, SkipReason

_METHODS: Final = ("GET",) * 14 + ("POST",) * 4 + ("HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")
_PATHS: Final = (
    "/",
    "/occ/v2/shop/products/search",
    "/occ/v2/shop/users/anonymous/carts",
    "/medias/sys_master/images/h4f/h20/8796177858590.jpg",
    "/_ui/responsive/common/css/main.css",
    "/cart/rollover/MiniCart",
    "/p/K%C3%B6ln%20Mug",
    '/search/"quoted"',
    "/health",
)
_QUERIES: Final = ("", "", "", "currentPage=2&pageSize=20", "q=caf%C3%A9&sort=price", "a==b?c")
_VERSIONS: Final = ("1.1",) * 8 + ("1.0", "2.0")
_STATUSES: Final = (200,) * 12 + (301, 302, 304, 304, 400, 401, 404, 404, 500, 503)
_AGENTS: Final = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X)",
    "kube-probe/1.29",
    'odd "agent" \\ with everything',
    "-",
)
_REFERERS: Final = ("-", "-", "https://www.shop.example/", "https://www.shop.example/search?text=m%C3%BCsli")
_SERVERS: Final = ("www.shop.example", "backoffice.shop.example", "api.shop.example")
_CACHE: Final = ("hit", "miss", "miss", "bypass", "-")
_USERS: Final = ("-",) * 8 + ("admin", "ünal")
# Request lines that are no requests, with the status and the reason why they become no row.
_NO_ROWS: Final = (
    ("-", 408, SkipReason.NO_REQUEST),
    ("PROPFIND /dav HTTP/1.1", 405, SkipReason.UNKNOWN_METHOD),
    ("OPTIONS / RTSP/1.0", 400, SkipReason.NOT_HTTP),
)
_NO_ROW_SHARE: Final = 0.02
_US_PER_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Exchange:
    """A request and its answer."""

    line: str
    status: int
    size: int | None  # None: the server sent no body
    milliseconds: int
    client: str
    truth: Mapping[str, Any]


def access_line(scene: Scene) -> LogLine:
    """Return a line of Apache's access log. Its time is the collector's, which is more exact than its own."""
    exchange, proxy = _exchange(scene), scene.pod.service.is_proxy
    agent, referer, user = scene.one_of(_AGENTS), scene.one_of(_REFERERS), scene.one_of(_USERS)
    logs = {
        "time": f"[{datetime.fromtimestamp(scene.time // NS_PER_SECOND, UTC):%d/%b/%Y:%H:%M:%S} +0000]",
        "remoteHost": exchange.client,
        "identdUsername": "-",
        "remoteUser": user,
        "requestFirstLine": exchange.line,
        "status": str(exchange.status),
        "bytes": "-" if exchange.size is None else str(exchange.size),
        "responseTime": str(exchange.milliseconds),
        "referer": referer,
        "userAgent": agent,
    }
    # Now and then a proxy answers by itself, and names neither.
    server, cache = (scene.one_of(_SERVERS), scene.one_of(_CACHE)) if proxy and not scene.chance(0.03) else (None, None)
    if server is not None and cache is not None:
        logs |= {"localServerName": server, "cache status": cache}
    request_id = scene.request_id()
    logs |= {} if request_id is None else {"requestId": request_id}
    truth = {
        **_row(scene, exchange, LineKind.HTTP if server is None else LineKind.PROXY),
        "time": scene.collected,
        "correlation_id": request_id,
        "remote_user": _stated(user),
        "user_agent": _stated(agent),
        "referer": _stated(referer),
        "server_address": server,
        "cache_status": _stated(cache),
    }
    return LogLine(scene.logged(logs), LineShape.ACCESS, truth)


def request_line(scene: Scene) -> LogLine:
    """Return a line in which a Java program says which request it has answered."""
    exchange, request_id = _exchange(scene), scene.request_id()
    logs = {
        "timeMillis": milliseconds(scene.time),
        "thread": f"hybrisHTTP{scene.dice.randrange(1, 40)}",
        "level": "INFO",
        "loggerName": "hybrisserver.access",
        "message": "request",
        "endOfBatch": False,
        "contextMap": {
            "requestLine": exchange.line,
            "statusCode": str(exchange.status),
            "bytesSent": "-" if exchange.size is None else str(exchange.size),
            "processMillis": str(exchange.milliseconds),
            "remoteHost": exchange.client,
            **({} if request_id is None else {"requestId": request_id}),
        },
    }
    time = milliseconds(scene.time) * 1_000_000
    truth = {**_row(scene, exchange, LineKind.HTTP), "time": time, "correlation_id": request_id}
    return LogLine(scene.logged(logs), LineShape.REQUEST, truth)


def _exchange(scene: Scene) -> _Exchange:
    client = f"198.51.{scene.dice.randrange(100)}.{scene.dice.randrange(1, 255)}"
    took, size = int(scene.dice.expovariate(1 / 80)), scene.dice.randrange(0, 200_000)
    if scene.chance(_NO_ROW_SHARE):
        line, status, reason = scene.one_of(_NO_ROWS)
        return _Exchange(line, status, None, took, client, {"skipped": reason})
    method, path, query = scene.one_of(_METHODS), scene.one_of(_PATHS), scene.one_of(_QUERIES)
    version, status = scene.one_of(_VERSIONS), scene.one_of(_STATUSES)
    body = None if method == "HEAD" or status == 304 else size  # noqa: PLR2004 - Not Modified
    truth = {
        "http_request_method": method,
        "url_path": path,
        "url_query": query or None,
        "network_protocol_version": version,
        "http_response_status_code": status,
        "http_response_body_size": body,
        "response_time": took * _US_PER_MS,
        "client_address": client,
    }
    return _Exchange(f"{method} {path}{'?' if query else ''}{query} HTTP/{version}", status, body, took, client, truth)


def _row(scene: Scene, exchange: _Exchange, kind: LineKind) -> dict[str, Any]:
    return {
        "row_type": None if "skipped" in exchange.truth else kind,
        "observed_time": scene.collected,
        **exchange.truth,
    }


def _stated(value: str | None) -> str | None:
    return None if value == "-" else value
