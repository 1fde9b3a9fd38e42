"""Parts of the http sink that need no server: settings, content, answers."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from libs.common.errors import ConfigError, Retry
from libs.common.http.client import Answer
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.formats.encoders import RowFormat
from libs.common.rows.shape import Shape
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.compression import Compression
from services.sinks.frame.delivery import BodyAccepted, BodyRefused
from services.sinks.frame.registry import configured_sink
from services.sinks.kinds.http.answers import reply_of
from services.sinks.kinds.http.content import BodyLayout, content_for
from services.sinks.kinds.http.sink import HttpSinkSettings
from tests.documents import flat_document
from tests.flows import rows, table

SECRET = "hunter2-of-the-test"  # noqa: S105
HOST = {"hosts": ["https://hooks"]}


def checked(**options: Any) -> HttpSinkSettings:
    """Return settings."""
    return HttpSinkSettings.model_validate({**HOST, **options})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hosts": []}, "hosts"),
        ({"path": "hook"}, "begins with a slash"),
        ({"path": "/a b"}, "no spaces"),
        ({"path": "/a\r\nX: y"}, "begins with a slash"),
        ({"path": "/{action}"}, "values of rows choose no path"),
        ({"path": "/{rows!r}"}, "values of rows choose no path"),
        ({"path": "/{rows:>9}"}, "values of rows choose no path"),
        ({"path": "/{rows"}, "only {rows}, {sink} and {shard}"),
        ({"path": "/{}"}, "only {rows}, {sink} and {shard}"),
        ({"method": "GET"}, "method"),
        ({"format": "line"}, "bodies have the formats"),
        ({"format": "avro"}, "bodies have the formats"),
        ({"format": "csv", "layout": "array"}, "csv has lines"),
        ({"format": "ecs", "rows": "dead_letters"}, "ecs is not available"),
        ({"headers": {"a b": "c"}}, "cannot name a header"),
        ({"headers": {"Host": "other"}}, "set by blobtide"),
        ({"headers": {"X-A": "1\r\nX-B: 2"}}, "printable ASCII"),
        ({"headers": {"Authorization": SECRET}}, "give it under header_files"),
        ({"headers": {"X-Api-Key": SECRET}}, "give it under header_files"),
        ({"headers": {"X-A": "1"}, "header_files": {"x-a": "file"}}, "given twice"),
        ({"headers": {"idempotency-key": "1"}}, "given twice"),
        ({"idempotency_header": "a b"}, "letters, digits and hyphens"),
        ({"api_key": SECRET, "bearer_token": SECRET}, "only one way to sign in"),
        ({"api_key": SECRET, "api_key_header": "a:b"}, "cannot name a header"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], said: str) -> None:
    """A wrong option is refused with what to do, and without showing a secret."""
    with pytest.raises(ConfigError, match=said) as raised:
        configured_sink({"http": {**HOST, **options}}, "http")
    assert SECRET not in str(raised.value)


def test_an_address_is_required() -> None:
    """There is no address that a webhook would have by default."""
    with pytest.raises(ConfigError, match=r"sinks\.http\.hosts"):
        configured_sink({"http": {}}, "http")


@pytest.mark.parametrize("path", ["", "/", "/v1/{rows}/{sink}?shard={shard}&x=%20", "?a=b"])
def test_paths_may_have_what_the_operator_chooses(path: str) -> None:
    """Row type, name and partition may stand in a path or its query."""
    assert checked(path=path).path == path


def test_secrets_become_headers(tmp_path: Path) -> None:
    """An API key goes under the name that the receiver wants; more secret headers come from files."""
    (tmp_path / "value").write_text(f"{SECRET}\n", encoding="utf-8")
    own = checked(api_key=SECRET, api_key_header="X-Token", header_files={"X-Tenant": tmp_path / "value"})
    assert own.sign_in() == {"X-Token": SECRET, "X-Tenant": SECRET}
    (tmp_path / "value").write_text("a\nb", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"header_files\.X-Tenant: the value of a header must be printable"):
        own.sign_in()


def test_secret_headers_go_only_over_tls(tmp_path: Path) -> None:
    """A header from a file counts as a credential."""
    (tmp_path / "value").write_text(SECRET, encoding="utf-8")
    plain = {"hosts": ["http://hooks"], "header_files": {"X-Tenant": tmp_path / "value"}}
    with pytest.raises(ConfigError, match="unencrypted"):
        HttpSinkSettings.model_validate(plain).cluster("http")


CONTENT = rows()[:5]


def body(
    form: RowFormat = RowFormat.JSON, layout: BodyLayout = BodyLayout.LINES, compression: Compression = Compression.NONE
) -> bytes:
    """Return the body of some rows, which are in two arrays."""
    content = content_for(form, layout, FLOWS, Shape.of(FLOWS))
    (texts,) = content.slices(table(CONTENT))
    return compression.apply(content.body(pa.chunked_array([texts[:2], texts[2:]])))


def test_lines_are_documents_with_line_ends() -> None:
    """Each row is a line of JSON."""
    assert [json.loads(line) for line in body().splitlines()] == [flat_document(row) for row in CONTENT]
    assert body().endswith(b"}\n")


def test_an_array_has_all_documents() -> None:
    """The body is one JSON array."""
    assert json.loads(body(layout=BodyLayout.ARRAY)) == [flat_document(row) for row in CONTENT]


def test_csv_has_a_header() -> None:
    """The names of the columns come first in every body."""
    found = list(csv.DictReader(io.StringIO(body(RowFormat.CSV).decode(), newline="")))
    assert [row["src_port"] for row in found] == [str(row["src_port"]) for row in CONTENT]
    assert next(iter(found[0])) == "time"


def test_compressed_bodies_say_the_same_every_time() -> None:
    """The compressed form of a body has no time in it."""
    compressed = body(compression=Compression.GZIP)
    assert gzip.decompress(compressed) == body()
    assert compressed == body(compression=Compression.GZIP)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_success_is_one(status: int) -> None:
    """Whatever the body of the answer is."""
    assert reply_of(Answer(status, b"<html>")) == BodyAccepted()


def test_a_status_of_its_own_for_known_keys() -> None:
    """A receiver may say that it has had a body before."""
    assert reply_of(Answer(409, b""), repeat_status=409) == BodyAccepted(already_there=True)
    with pytest.raises(Retry):
        reply_of(Answer(409, b""))


@pytest.mark.parametrize(("status", "code"), [(400, ErrorCode.REFUSED), (422, ErrorCode.REFUSED), (413, ErrorCode.TOO_LARGE)])
def test_what_is_wrong_with_a_body_is_told_apart(status: int, code: ErrorCode) -> None:
    """Content and size are reasons to halve a body."""
    refused = reply_of(Answer(status, b"no"))
    assert isinstance(refused, BodyRefused)
    assert (refused.code, str(status) in refused.reason) == (code, True)


@pytest.mark.parametrize(
    ("status", "said", "after"),
    [
        (401, "denies the sign-in", 10.0),
        (403, "denies the right", 10.0),
        (404, "check hosts and path", 10.0),
        (302, "within the same host", 10.0),
        (307, "within the same host", 10.0),
        (415, "compression: none", 10.0),
        (418, "answered 418", 10.0),
        (429, "answered 429", 7.0),
        (408, "answered 408", 1.0),
        (500, "answered 500", 1.0),
        (599, "answered 599", 1.0),
    ],
)
def test_everything_else_delays(status: int, said: str, after: float) -> None:
    """Whatever is not about a body is waited out, for as long as the receiver asks, and said without its secrets."""
    answer = Answer(status, b"password=" + SECRET.encode(), 7.0 if status == 429 else None)
    with pytest.raises(Retry, match=said) as raised:
        reply_of(answer)
    assert (raised.value.after, raised.value.kind) == (after, f"status_{status}")
    assert SECRET not in str(raised.value)
