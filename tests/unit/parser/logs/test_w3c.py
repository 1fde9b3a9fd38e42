"""W3C extended logs: IIS and App Service."""

from __future__ import annotations

from services.parser.logs.options import LogOptions
from tests.log_rows import OBSERVED, outcomes, parse, rows

FIELDS = "#Fields: date time s-computername cs-method cs-uri-stem cs-uri-query cs-version sc-status time-taken x-forwarded-for"
SOFTWARE = "#Software: Microsoft Internet Information Services 10.0"
LINE = "2026-05-01 12:00:00.25 web-1 GET /a b=c HTTP/2 200 15 10.9.9.9"


def test_lines_of_app_service_need_no_directive() -> None:
    """All fields of App Service's logs are in the row."""
    line = (
        "2026-05-01 12:00:00 SITE GET /cart b=c 443 - 10.0.0.1"
        " Mozilla/5.0+(X11) ARRAffinity=1 - shop.example 200 0 64 500 600 15"
    )
    assert rows(parse(line)) == [
        {
            "type": "http",
            "time": "2026-05-01T12:00:00.000000000Z",
            "observed_time": OBSERVED,
            "http_request_method": "GET",
            "url_path": "/cart",
            "url_query": "b=c",
            "http_response_status_code": 200,
            "http_response_size": 500,
            "http_request_size": 600,
            "response_time": 15_000,
            "client_address": "10.0.0.1",
            "user_agent": "Mozilla/5.0 (X11)",
            "server_address": "shop.example",
            "server_port": 443,
            "format": "w3c",
            "attributes": '{"s-sitename":"SITE","cs(cookie)":"ARRAffinity=1","sc-substatus":"0","sc-win32-status":"64"}',
            "line_offset": 4096,
        }
    ]


def test_directives_name_the_fields_of_what_follows() -> None:
    """Directives are counted; a line with another number of fields is a dead letter; other methods are skipped."""
    bad, other = "2026-05-01 12:00:00 web-1 GET /a b=c HTTP/2", LINE.replace("GET", "BREW")
    found = parse(SOFTWARE, FIELDS, LINE, bad, other, LINE.replace("GET", "-"))
    assert rows(found) == [
        {
            "type": "http",
            "time": "2026-05-01T12:00:00.250000000Z",
            "observed_time": OBSERVED,
            "http_request_method": "GET",
            "url_path": "/a",
            "url_query": "b=c",
            "network_protocol_version": "2",
            "http_response_status_code": 200,
            "response_time": 15_000,
            "format": "w3c",
            "host": "web-1",
            "attributes": '{"x-forwarded-for":"10.9.9.9"}',
            "line_offset": 4096 + len(FIELDS) + 57,
        }
    ]
    assert outcomes(found) == [
        ("bad_record", "w3c: not the number of fields that #Fields names"),
        ("skipped", "directive"),
        ("skipped", "directive"),
        ("skipped", "no_request"),
        ("skipped", "unknown_method"),
    ]


def test_fields_can_be_configured() -> None:
    """A segment that begins behind the directive is read with the configured fields."""
    options = LogOptions(w3c_fields=("date", "time", "cs-method", "cs-uri-stem"))
    (row,) = rows(parse("2026-05-01 12:00:00 GET /a", options=options))
    assert (row["format"], row["url_path"]) == ("w3c", "/a")
