"""Spans of requests that can be followed."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

import pytest

from services.parser.logs.derived_ids import NAMESPACE
from services.parser.logs.options import LogOptions
from tests.log_rows import START, line_of, parse, rows, spans

TRACE, SPAN, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "05e3ac9a4f6e3b90"
AT = 1_777_636_801_123_000_000
LABELS = '{"service":"api","subscription":"cp2","environment":"P1"}'


def mix(number: int) -> int:
    """Return Steele's mix of a number of 64 bits."""
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    number = (number ^ number >> 27) * 0x94D049BB133111EB % 2**64
    return number ^ number >> 31


DERIVED = f"{mix(uuid5(NAMESPACE, chr(10).join(('span', 'cp2.P1/logs/x', 'g'))).int >> 64 ^ mix(START)):016x}"


def request(**context: Any) -> str:
    """Return a request that a program logs after 31 ms, with members in its context."""
    known = {"requestLine": "POST /carts?fields=FULL HTTP/1.1", "statusCode": "201", "processMillis": "31", **context}
    return line_of({"logs": {"timeMillis": 1777636801123, "contextMap": known}})


def span_of(line: str, *, is_proxy: bool = False) -> dict[str, Any]:
    """Return the only span of a line, without nulls."""
    (span,) = spans(parse(line, labels=LABELS, is_proxy=is_proxy))
    return {name: value for name, value in span.items() if value is not None}


def test_a_request_with_a_correlation_id_is_a_span() -> None:
    """Its ids are the UUIDs of its correlation id in its environment, and of its position; it ended when it was logged."""
    assert span_of(request(requestId="r-1", user="anna")) == {
        "time": AT - 31_000_000,
        "end_time": AT,
        "trace_id": uuid5(NAMESPACE, "trace\ncp2\nP1\nr-1").hex,
        "span_id": DERIVED,
        "name": "POST",
        "kind": "server",
        "status": "unset",
        "correlation_id": "r-1",
        "row_type": "http",
        "http_request_method": "POST",
        "url_path": "/carts",
        "http_response_status_code": 201,
        "format": "http",
        "service": "api",
        "subscription": "cp2",
        "environment": "P1",
        "attributes": '{"logs":{"contextMap":{"user":"anna"}}}',
        "blob": "cp2.P1/logs/x",
        "generation": "g",
        "line_offset": START,
        "line_index": 0,
    }


def test_ids_are_those_of_the_page_about_them() -> None:
    """The namespace is the one that is written down, and ids do not change between versions."""
    assert uuid5(UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8"), "urn:blobtide:traces") == NAMESPACE
    span = span_of(request(requestId="4711"))
    assert (span["trace_id"], span["span_id"]) == ("012048050d845682ab96511e7ccf599e", "064694b0b4e403b4")


@pytest.mark.parametrize(
    ("context", "ids"),
    [
        ({"traceId": TRACE.upper(), "spanId": SPAN, "parentSpanId": PARENT}, (TRACE, SPAN, PARENT)),
        ({"traceparent": f"00-{TRACE}-{PARENT}-01"}, (TRACE, None, PARENT)),
        ({"traceparent": f"cc-{TRACE}-{PARENT}-01-more"}, (TRACE, None, PARENT)),
        ({"b3": f"{TRACE}-{SPAN}-1-{PARENT}"}, (TRACE, SPAN, PARENT)),
        ({"b3": f"{TRACE[:16]}-{SPAN}"}, (f"{'0' * 16}{TRACE[:16]}", SPAN, None)),
        ({"X-B3-TraceId": TRACE, "X-B3-SpanId": SPAN, "X-B3-ParentSpanId": PARENT}, (TRACE, SPAN, PARENT)),
        ({"traceId": TRACE, "traceparent": f"00-{'a' * 32}-{PARENT}-01"}, (TRACE, None, PARENT)),
        ({"requestId": "r", "traceparent": f"ff-{TRACE}-{PARENT}-01"}, (None, None, None)),
        ({"requestId": "r", "traceparent": f"00-{'0' * 32}-{'0' * 16}-01"}, (None, None, None)),
        ({"requestId": "r", "traceId": "0" * 32, "spanId": "0" * 16, "parentSpanId": "7"}, (None, None, None)),
        ({"requestId": "r", "b3": "0"}, (None, None, None)),
    ],
)
def test_ids_of_the_line_are_kept(context: dict[str, str], ids: tuple[str | None, str | None, str | None]) -> None:
    """Valid ids in members, and in the headers of W3C and Zipkin, are those of the span; others are derived."""
    span = span_of(request(**context))
    derived = uuid5(NAMESPACE, "trace\ncp2\nP1\nr").hex, DERIVED
    assert (span["trace_id"], span["span_id"]) == tuple(one or other for one, other in zip(ids[:2], derived, strict=True))
    assert span.get("parent_span_id") == ids[2]


def test_headers_give_rows_their_trace_and_stay_in_their_attributes() -> None:
    """A row of a request has the trace that its header names, and still says the whole header."""
    header = f"00-{TRACE}-{PARENT}-01"
    (row,) = rows(parse(request(traceparent=header)))
    assert row["trace_id"] == TRACE
    assert "span_id" not in row
    assert row["attributes"] == f'{{"logs":{{"contextMap":{{"traceparent":"{header}"}}}}}}'


@pytest.mark.parametrize("context", [{}, {"requestId": ""}, {"requestId": "-"}, {"traceId": "none"}, {"spanId": SPAN}])
def test_a_request_that_cannot_be_followed_is_no_span(context: dict[str, str]) -> None:
    """Without a correlation id or a valid trace there is no span; nor is there one of an application's record."""
    application = line_of({"time": "2026-05-01T12:00:00Z", "message": "m", "request_id": "r-1"})
    parsed = parse(request(**context), application)
    assert len(rows(parsed)) == 2
    assert spans(parsed) == []


@pytest.mark.parametrize(
    ("context", "begin", "end", "status"),
    [
        ({"processMillis": "-"}, AT, None, "unset"),
        ({"processMillis": "-5"}, AT, None, "unset"),
        ({"processMillis": "9223372036854775"}, AT, None, "unset"),
        ({"statusCode": "503"}, AT - 31_000_000, AT, "error"),
        ({"statusCode": "404"}, AT - 31_000_000, AT, "unset"),
        ({"statusCode": "-"}, AT - 31_000_000, AT, "unset"),
    ],
)
def test_times_and_status(context: dict[str, str], begin: int, end: int | None, status: str) -> None:
    """Without a duration that can be, there is no end; only what the server did wrong is an error."""
    span = span_of(request(requestId="r-1", **context))
    assert (span["time"], span.get("end_time"), span["status"]) == (begin, end, status)


def test_spans_of_both_types_of_requests_are_in_the_order_of_lines() -> None:
    """In a stream of proxy logs, spans of http and proxy rows are one table; the same correlation id is the same trace."""
    proxied = {"requestFirstLine": "GET / HTTP/1.1", "status": "200", "localServerName": "shop", "requestId": "r-1"}
    lines = [line_of({"@timestamp": "2026-05-01T12:00:00Z", "logs": proxied}), request(requestId="r-1"), request()]
    found = spans(parse(*lines, *lines, labels=LABELS, is_proxy=True))
    assert [span["row_type"] for span in found] == ["proxy", "http"] * 2
    assert [span["line_offset"] for span in found] == sorted({span["line_offset"] for span in found})
    assert len({span["trace_id"] for span in found}) == 1
    assert len({span["span_id"] for span in found}) == 4


def test_spans_can_be_turned_off() -> None:
    """Without spans, requests are the same."""
    line = request(requestId="r-1")
    parsed = parse(line, options=LogOptions(spans=False))
    assert spans(parsed) == []
    assert rows(parsed) == rows(parse(line))
