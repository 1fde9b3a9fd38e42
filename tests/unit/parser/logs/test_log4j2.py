"""Application logs of log4j2's JsonLayout."""

from __future__ import annotations

from typing import Any

from tests.log_rows import OBSERVED, line_of, outcomes, parse, rows

LOGS: dict[str, Any] = {
    "instant": {"epochSecond": 1777636801, "nanoOfSecond": 123456789},
    "thread": "http-nio-8080-exec-3",
    "level": "ERROR",
    "loggerName": "shop.orders.OrderService",
    "message": "order 4711 was not placed",
    "thrown": {
        "name": "java.lang.IllegalStateException",
        "message": "no stock",
        "localizedMessage": "no stock",
        "extendedStackTrace": "java.lang.IllegalStateException: no stock\n\tat shop.Orders.place(Orders.java:88)\n",
    },
    "contextMap": {"correlationId": "c-1", "clientIp": "10.1.7.20", "user": "anna"},
    "endOfBatch": False,
    "threadId": 41,
    "threadPriority": 5,
}
LINE = {"@timestamp": "2026-05-01T12:00:01.310221Z", "logs": LOGS, "stream": "stdout"}
ROW = {
    "type": "application",
    "time": "2026-05-01T12:00:01.123456789Z",
    "observed_time": "2026-05-01T12:00:01.310221000Z",
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
    "correlation_id": "c-1",
    "stream": "stdout",
    "format": "log4j2",
    "attributes": '{"logs":{"contextMap":{"user":"anna"},"endOfBatch":false,"threadPriority":5}}',
    "line_offset": 4096,
}


def test_a_record_with_an_exception() -> None:
    """All members are in the row, the time with its nanoseconds."""
    assert rows(parse(line_of(LINE))) == [ROW]


def test_a_bare_record() -> None:
    """Without a wrapping, attributes are at the top, and the line was observed when it was written to Kafka."""
    attributes = '{"contextMap":{"user":"anna"},"endOfBatch":false,"threadPriority":5}'
    expected = ROW | {"observed_time": OBSERVED, "attributes": attributes}
    del expected["stream"]
    assert rows(parse(line_of(LOGS))) == [expected]


def test_milliseconds_stand_in_for_an_instant_and_the_collector_for_both() -> None:
    """Without a time of its own, a record has that of its collector."""
    without = {name: value for name, value in LOGS.items() if name != "instant"}
    lines = [LINE | {"logs": without | {"timeMillis": 1777636801123}}, LINE | {"logs": without}]
    times = [row["time"] for row in rows(parse(*map(line_of, lines)))]
    assert times == ["2026-05-01T12:00:01.123000000Z", "2026-05-01T12:00:01.310221000Z"]


def test_times_out_of_range_stay_with_the_attributes() -> None:
    """An instant that no column can hold is an attribute; the record then has the collector's time."""
    far = LINE | {"logs": LOGS | {"instant": {"epochSecond": 99_999_999_999, "nanoOfSecond": 0}}}
    (row,) = rows(parse(line_of(far)))
    assert row["time"] == row["observed_time"] == "2026-05-01T12:00:01.310221000Z"
    assert '"epochSecond":99999999999' in row["attributes"]


def test_frames_are_kept_as_written() -> None:
    """A stack trace that is an array of frames is text of JSON."""
    frames = [{"class": "shop.Orders", "method": "place"}]
    (row,) = rows(parse(line_of(LINE | {"logs": LOGS | {"thrown": {"name": "E", "extendedStackTrace": frames}}})))
    assert row["exception_stacktrace"] == '[{"class":"shop.Orders","method":"place"}]'


def test_records_that_say_nothing_are_counted() -> None:
    """A record with neither message nor exception is skipped; one with an exception only is a row without a message."""
    found = parse(*(line_of(LINE | {"logs": {"level": "INFO", "message": text}}) for text in ("", "  \t")))
    assert outcomes(found) == [("skipped", "blank_message")] * 2
    (row,) = rows(parse(line_of(LINE | {"logs": {"level": "INFO", "thrown": {"name": "E"}}})))
    assert ("body" in row, row["exception_type"]) == (False, "E")
