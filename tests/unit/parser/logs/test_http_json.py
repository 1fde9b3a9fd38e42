"""Requests that an application logs through log4j2."""

from __future__ import annotations

from tests.log_rows import line_of, outcomes, parse, rows

CONTEXT = {
    "requestLine": "POST /occ/v2/carts?fields=FULL HTTP/1.1",
    "statusCode": "201",
    "bytesSent": "77",
    "processMillis": "31",
    "remoteHost": "10.1.7.20",
    "requestId": "r-1",
    "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
    "spanId": "00f067aa0ba902b7",
    "user": "anna",
}
LINE = {
    "@timestamp": "2026-05-01T12:00:01.310221Z",
    "logs": {"timeMillis": 1777636801123, "level": "INFO", "contextMap": CONTEXT},
}


def test_a_request() -> None:
    """The context map becomes columns; what is not read of the record are attributes."""
    assert rows(parse(line_of(LINE))) == [
        {
            "type": "http",
            "time": "2026-05-01T12:00:01.123000000Z",
            "observed_time": "2026-05-01T12:00:01.310221000Z",
            "http_request_method": "POST",
            "url_path": "/occ/v2/carts",
            "url_query": "fields=FULL",
            "network_protocol_version": "1.1",
            "http_response_status_code": 201,
            "http_response_body_size": 77,
            "response_time": 31_000,
            "client_address": "10.1.7.20",
            "correlation_id": "r-1",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            "span_id": "00f067aa0ba902b7",
            "format": "http",
            "attributes": '{"logs":{"level":"INFO","contextMap":{"user":"anna"}}}',
            "line_offset": 4096,
        }
    ]


def test_a_bare_line() -> None:
    """Without a wrapping, the same members are read."""
    (row,) = rows(parse(line_of(LINE["logs"])))  # type: ignore[arg-type]
    assert (row["format"], row["url_path"], row["time"]) == ("http", "/occ/v2/carts", "2026-05-01T12:00:01.123000000Z")


def test_a_context_without_a_request_is_of_an_application() -> None:
    """A remote host alone makes a request, unless the context names the method that logged."""
    context = {"remoteHost": "10.1.7.20", "sourceClassName": "shop.Orders"}
    (row,) = rows(parse(line_of({"logs": {"timeMillis": 1777636801123, "message": "m", "contextMap": context}})))
    assert (row["type"], row["format"], row["client_address"]) == ("application", "log4j2", "10.1.7.20")
    found = parse(line_of({"logs": {"timeMillis": 1777636801123, "contextMap": {"remoteHost": "10.1.7.20"}}}))
    assert outcomes(found) == [("bad_record", "http: no request line")]
