"""Other JSON, and logfmt, with the names that loggers use and with configured ones."""

from __future__ import annotations

import pytest

from libs.common.errors import ConfigError
from libs.common.settings.logs import LogLineSettings
from services.parser.log_options import log_options
from services.parser.logs.options import LogOptions
from tests.log_rows import OBSERVED, outcomes, parse, rows

SAME = {"observed_time": OBSERVED, "line_offset": 4096}


def test_json_of_an_application() -> None:
    """Members with known names are columns, nested or with dots; the others are attributes, as they were written."""
    line = (
        '{"ts":1777636801.123456789,"log.level":"warn","message":"a \\"b\\"","process":{"thread":{"name":"main","id":7}},'
        '"trace":{"id":"t"},"span.id":"s","error":{"type":"E","message":"x"},"n":1.50,"empty":{},"list":[1, {"a":null}]}'
    )
    assert rows(parse(line)) == [
        {
            "type": "application",
            "time": "2026-05-01T12:00:01.123456789Z",
            "severity_text": "warn",
            "severity_number": 13,
            "body": 'a "b"',
            "thread": "main",
            "thread_id": 7,
            "exception_type": "E",
            "exception_message": "x",
            "trace_id": "t",
            "span_id": "s",
            "format": "json",
            "attributes": '{"n":1.50,"list":[1, {"a":null}]}',
            **SAME,
        }
    ]


def test_json_of_a_request() -> None:
    """A method and a target make a request; its duration has the unit that its name says."""
    line = (
        '{"time":"2026-05-01T12:00:00Z","method":"get","uri":"https://shop.example/a?b=c","status":200,"protocol":"HTTP/1.1",'
        '"request_time":0.0125,"remote_addr":"10.0.0.1","upstream":"u"}'
    )
    assert rows(parse(line)) == [
        {
            "type": "http",
            "time": "2026-05-01T12:00:00.000000000Z",
            "http_request_method": "GET",
            "url_path": "/a",
            "url_query": "b=c",
            "network_protocol_version": "1.1",
            "http_response_status_code": 200,
            "response_time": 12_500,
            "client_address": "10.0.0.1",
            "server_address": "shop.example",
            "format": "json",
            "attributes": '{"upstream":"u"}',
            **SAME,
        }
    ]


def test_a_request_line_counts_more_than_its_parts() -> None:
    """Members that say the same, or something else, are attributes; a line without a request is counted."""
    line = '{"time":"2026-05-01T12:00:00Z","request":"PUT /x HTTP/1.0","method":"GET","uri":"/index.html"}'
    found = parse(line, line.replace('"PUT /x HTTP/1.0"', "null"))
    (row,) = rows(found)
    assert (row["http_request_method"], row["url_path"], row["network_protocol_version"]) == ("PUT", "/x", "1.0")
    assert row["attributes"] == '{"method":"GET","uri":"/index.html"}'
    assert outcomes(found) == [("skipped", "no_request")]


def test_of_several_durations_the_first_in_the_smallest_unit_counts() -> None:
    """The others are attributes, in each line for itself."""
    line = (
        '{"time":"2026-05-01T12:00:00Z","method":"GET","uri":"/a","request_time":0.0125,"duration_us":12500,"elapsed_ms":12.5}'
    )
    first, second = rows(parse(line, line.replace('"duration_us":12500,', "").replace("0.0125", "0.0127")))
    assert (first["response_time"], first["attributes"]) == (12_500, '{"request_time":0.0125,"elapsed_ms":12.5}')
    assert (second["response_time"], second["attributes"]) == (12_500, '{"request_time":0.0127}')


def test_the_header_of_a_trace_stays_among_the_attributes() -> None:
    """A request has the trace that it names, and still says the whole header."""
    header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    (row,) = rows(parse(f'{{"time":"2026-05-01T12:00:00Z","method":"GET","uri":"/a","traceparent":"{header}"}}'))
    assert (row["trace_id"], row["attributes"]) == (header.split("-")[1], f'{{"traceparent":"{header}"}}')


def test_logfmt() -> None:
    """Pairs are read like members of JSON, all of them as text."""
    assert rows(parse('ts=2026-05-01T12:00:00Z level=info msg="order \\"placed\\"" order=4711 empty=')) == [
        {
            "type": "application",
            "time": "2026-05-01T12:00:00.000000000Z",
            "severity_text": "info",
            "severity_number": 9,
            "body": 'order "placed"',
            "format": "logfmt",
            "attributes": '{"order":"4711","empty":""}',
            **SAME,
        }
    ]
    (row,) = rows(parse("ts=2026-05-01T12:00:00Z method=GET path=/a status=404"))
    assert (row["type"], row["url_path"], row["http_response_status_code"]) == ("http", "/a", 404)


def test_a_map_of_fields() -> None:
    """Configured members come before those that are known anyway, which are then attributes."""
    options = log_options(LogLineSettings(fields={"body": ("event.text", "text"), "severity_text": ("prio",)}))
    line = '{"time":"2026-05-01T12:00:00Z","event":{"text":"b"},"message":"m","prio":"E","level":"x"}'
    assert rows(parse(line, options=options)) == [
        {
            "type": "application",
            "time": "2026-05-01T12:00:00.000000000Z",
            "severity_text": "E",
            "severity_number": 17,
            "body": "b",
            "format": "json",
            "attributes": '{"message":"m","level":"x"}',
            **SAME,
        }
    ]


def test_settings_that_mean_nothing_are_refused() -> None:
    """An unknown column is named with a similar one, a pattern with what is wrong with it."""
    with pytest.raises(ConfigError, match=r"parser\.logs\.fields: no column bodi.*body"):
        log_options(LogLineSettings(fields={"bodi": ("a",)}))
    with pytest.raises(ConfigError, match=r"parser\.logs\.start_pattern: .*missing \)"):
        log_options(LogLineSettings(start_pattern="("))


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ('{"message":"no time"}', ("bad_record", "json: no time that can be read")),
        ('{"time":"soon","message":"m"}', ("bad_record", "json: no time that can be read")),
        ('{"time":"2026-05-01T12:00:00Z"', ("bad_json", "not JSON")),
        ('{"time":"2026-05-01T12:00:00Z","n":01}', ("bad_json", "not JSON")),
        ('{"time":"2026-05-01T12:00:00Z","n":NaN}', ("bad_json", "not JSON")),
        ('{"time":"2026-05-01T12:00:00Z"} x', ("bad_json", "not JSON")),
        ('{"a":' * 100 + "1" + "}" * 100, ("bad_record", "objects are nested too deeply")),
        ('{"time":"2026-05-01T12:00:00Z","method":"BREW","path":"/"}', ("skipped", "unknown_method")),
    ],
)
def test_what_is_no_row(line: str, outcome: tuple[str, str]) -> None:
    """A line that cannot be read is a dead letter that says why."""
    assert outcomes(parse(line)) == [outcome]


def test_names_that_repeat_and_unusual_white_space() -> None:
    """The last member of a name counts, wherever blanks are; indented JSON is JSON, also if no other line is."""
    (row,) = rows(parse(' \t{ "time" :\t"2026-05-01T12:00:00Z" , "message":"a", "message" : "b" }', options=LogOptions()))
    assert (row["body"], row["format"]) == ("b", "json")
