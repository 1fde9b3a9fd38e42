"""Access logs of Apache as JSON."""

from __future__ import annotations

from typing import Any, Final

from tests.log_rows import OBSERVED, line_of, outcomes, parse, rows

REQUEST: Final[dict[str, Any]] = {
    "requestFirstLine": "GET /cart/items?page=2 HTTP/1.1",
    "status": "200",
    "bytes": "5120",
    "responseTime": "12",
    "remoteHost": "10.1.7.20",
    "remoteUser": "-",
    "identdUserName": "-",
    "referer": "https://www.shop.example/cart",
    "userAgent": "Mozilla/5.0",
    "localServerName": "www.shop.example",
    "cache status": "miss",
    "time": "[01/May/2026:12:00:01 +0000]",
}
KUBERNETES: Final[dict[str, Any]] = {
    "pod_name": "apache2-x2",
    "namespace_name": "default",
    "container_name": "proxy",
    "docker_id": "931d",
    "host": "node-1",
    "pod_ip": "10.244.0.7",
    "labels": {"app": "apache2"},
}
WRAPPED: Final[dict[str, Any]] = {
    "@timestamp": "2026-05-01T12:00:01.310221Z",
    "stream": "stdout",
    "logs": REQUEST,
    "kubernetes": KUBERNETES,
}
ROW: Final[dict[str, Any]] = {
    "type": "proxy",
    "time": "2026-05-01T12:00:01.310221000Z",
    "observed_time": "2026-05-01T12:00:01.310221000Z",
    "http_request_method": "GET",
    "url_path": "/cart/items",
    "url_query": "page=2",
    "network_protocol_version": "1.1",
    "http_response_status_code": 200,
    "http_response_body_size": 5120,
    "response_time": 12_000,
    "client_address": "10.1.7.20",
    "user_agent": "Mozilla/5.0",
    "referer": "https://www.shop.example/cart",
    "server_address": "www.shop.example",
    "cache_status": "miss",
    "stream": "stdout",
    "format": "access",
    "namespace": "default",
    "pod": "apache2-x2",
    "pod_ip": "10.244.0.7",
    "container": "proxy",
    "container_id": "931d",
    "host": "node-1",
    "resource_attributes": '{"labels":{"app":"apache2"}}',
    "line_offset": 4096,
}


def test_a_request_to_a_proxy() -> None:
    """A wrapped line is a row with all of its members."""
    assert rows(parse(line_of(WRAPPED), is_proxy=True)) == [ROW]


def test_a_request_without_server_and_cache_is_of_a_server() -> None:
    """What names neither server nor cache is a row of type http, as is all in another stream than that of proxies."""
    names = ("localServerName", "cache status")
    bare = {name: value for name, value in REQUEST.items() if name not in names}
    expected = {name: value for name, value in ROW.items() if name not in ("server_address", "cache_status")}
    assert rows(parse(line_of(WRAPPED | {"logs": bare}), is_proxy=True)) == [expected | {"type": "http"}]
    (row,) = rows(parse(line_of(WRAPPED)))
    assert row["type"] == "http"
    assert row["attributes"] == '{"logs":{"cache status":"miss"}}'


def test_a_bare_line_has_the_time_that_apache_wrote() -> None:
    """Without a collector, the time is that of the request, with its zone."""
    (row,) = rows(parse(line_of(REQUEST | {"time": "[01/May/2026:12:00:01 +0200]"}), is_proxy=True))
    assert (row["time"], row["observed_time"]) == ("2026-05-01T10:00:01.000000000Z", OBSERVED)
    assert "attributes" not in row


def test_values_that_no_column_can_hold_stay_with_the_attributes() -> None:
    """A status or size that is no number is an attribute, and the column is null."""
    (row,) = rows(parse(line_of(WRAPPED | {"logs": REQUEST | {"status": "2xx", "bytes": "-", "responseTime": "fast"}})))
    assert row.keys() & {"http_response_status_code", "http_response_body_size", "response_time"} == set()
    assert '"status":"2xx"' in row["attributes"]
    assert '"responseTime":"fast"' in row["attributes"]


def test_what_is_no_request_is_counted() -> None:
    """Connections without a request, other protocols and other methods are skipped, each for its reason."""
    firsts = ("-", "", "\u0016\u0003", "GET /", "PROPFIND / HTTP/1.1")
    found = parse(*(line_of(WRAPPED | {"logs": REQUEST | {"requestFirstLine": one}}) for one in firsts))
    assert rows(found) == []
    skipped = ["no_request", "no_request", "not_http", "not_http", "unknown_method"]
    assert sorted(outcomes(found)) == [("skipped", one) for one in skipped]


def test_a_line_without_a_request_line_is_a_dead_letter() -> None:
    """A line with a status but no request is bad."""
    found = parse(line_of({"@timestamp": "2026-05-01T12:00:01Z", "logs": {"status": "200"}}))
    assert outcomes(found) == [("bad_record", "access: no request line")]
