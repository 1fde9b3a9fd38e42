"""Access logs in the common and the combined format."""

from __future__ import annotations

import pytest

from tests.log_rows import OBSERVED, outcomes, parse, rows

COMMON = '10.0.0.1 - frank [01/May/2026:12:00:00 +0200] "GET /a%20b?q=1&r HTTP/1.1" 304 512'


def test_the_combined_format_and_what_follows() -> None:
    """Referer and user agent are columns, a decimal number is the time to answer, and the rest is an attribute."""
    assert rows(parse(f'{COMMON} "https://x.example/" "curl/8 \\"q\\"" 0.012 "tail"')) == [
        {
            "type": "http",
            "time": "2026-05-01T10:00:00.000000000Z",
            "observed_time": OBSERVED,
            "http_request_method": "GET",
            "url_path": "/a%20b",
            "url_query": "q=1&r",
            "network_protocol_version": "1.1",
            "http_response_status_code": 304,
            "http_response_body_size": 512,
            "response_time": 12_000,
            "client_address": "10.0.0.1",
            "remote_user": "frank",
            "user_agent": 'curl/8 \\"q\\"',
            "referer": "https://x.example/",
            "format": "combined",
            "attributes": '{"more":"\\"tail\\""}',
            "line_offset": 4096,
        }
    ]


def test_the_common_format_with_a_virtual_host() -> None:
    """A host with a port in front is the server; ``-`` is null; an absolute target names path and server."""
    found = parse('shop.example:443 10.0.0.1 id - [01/May/2026:12:00:00 +0000] "POST http://other.example HTTP/2" 404 -')
    assert rows(found) == [
        {
            "type": "http",
            "time": "2026-05-01T12:00:00.000000000Z",
            "observed_time": OBSERVED,
            "http_request_method": "POST",
            "url_path": "/",
            "network_protocol_version": "2",
            "http_response_status_code": 404,
            "client_address": "10.0.0.1",
            "remote_user": "id",
            "server_address": "shop.example",
            "server_port": 443,
            "format": "combined",
            "line_offset": 4096,
        }
    ]


@pytest.mark.parametrize(
    ("request_line", "outcome"),
    [
        ("-", ("skipped", "no_request")),
        ("\\x16\\x03", ("skipped", "not_http")),
        ("GET / HTTP/1.1.1", ("skipped", "not_http")),
        ("get / HTTP/1.1", ("skipped", "unknown_method")),
        ("GET ?a HTTP/1.1", ("bad_record", "combined: a request without a path")),
    ],
)
def test_what_is_no_request(request_line: str, outcome: tuple[str, str]) -> None:
    """Each line that is no row is counted for its reason, or a dead letter."""
    assert outcomes(parse(f'10.0.0.1 - - [01/May/2026:12:00:00 +0000] "{request_line}" 400 -')) == [outcome]


def test_an_impossible_time_is_a_dead_letter() -> None:
    """A request must have happened at some time."""
    found = parse('10.0.0.1 - - [31/Feb/2026:12:00:00 +0000] "GET / HTTP/1.1" 200 1')
    assert outcomes(found) == [("bad_record", "combined: no time that can be read")]


def test_both_formats_and_others_in_one_segment() -> None:
    """Lines are read in their own format, and rows are in the order of lines."""
    found = rows(parse(COMMON, 'a "quoted" text', f'{COMMON} "-" "curl/8"', COMMON[:-10]))
    assert [row["format"] for row in found] == ["combined", "text", "combined", "text"]
    assert [row.get("user_agent") for row in found] == [None, None, "curl/8", None]
