"""What becomes of the answers of a source, by a server on this machine."""

from __future__ import annotations

import base64
import gzip
import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import ConfigError
from libs.common.messages.dead_letters import ErrorCode
from libs.common.messages.events import SourceState
from libs.common.process.logs import configure_logging
from libs.common.settings.process import LogSettings
from libs.common.settings.recorder import HttpSourceSettings
from libs.local.ports import LOOPBACK
from services.recorder.asking import FailedPoll, HttpPoller, PollClock, PollOutcome, RefusedAnswer, Snapshot, UnchangedAnswer
from tests.answer_server import AnswerServer, Reply, answering

BODY = b'{"a": 1.50}'
MS = 1_777_636_805_002


@pytest.fixture
def server() -> Iterator[AnswerServer]:
    """Return a server that answers with `BODY`."""
    with answering() as made:
        made.say("/x", Reply(BODY))
        yield made


def poller(server: AnswerServer, **settings: Any) -> HttpPoller:
    """Return what asks the path /x of the server."""
    source = HttpSourceSettings.model_validate({"name": "x", "url": server.url, "path": "/x", **settings})
    return HttpPoller(source, PollClock(now_ms=lambda: MS))


def asked(server: AnswerServer, last: SourceState | None = None, **settings: Any) -> PollOutcome:
    """Ask once."""
    asking = poller(server, **settings)
    try:
        return asking.ask(last)
    finally:
        asking.close()


def test_an_answer_is_recorded_with_what_is_known_of_it(server: AnswerServer) -> None:
    """Its time is when it was asked for; hash and size are those of its bytes, decompressed if the server compresses."""
    server.say("/x", Reply(gzip.compress(BODY), headers={"Content-Encoding": "gzip", "ETag": '"1"', "Last-Modified": "today"}))
    found = asked(server)
    assert isinstance(found, Snapshot)
    assert found.records == (b'{"timestamp":1777636805002,"a": 1.50}',)
    assert (found.facts.asked_ms, found.facts.status, found.facts.size) == (MS, 200, len(BODY))
    assert found.facts.took_us > 0
    assert found.answer_hash == hashlib.sha256(BODY).hexdigest()
    assert (found.etag, found.last_modified) == ('"1"', "today")


def test_a_source_is_asked_as_configured(server: AnswerServer, tmp_path: Path) -> None:
    """Method, path, query, headers, body and sign-in are those of the settings; files are read again for each request."""
    token, key = tmp_path / "token", tmp_path / "key"
    token.write_text("one\n")
    key.write_text("k&1\n")
    asking = poller(
        server,
        method="POST",
        body='{"q":1}',
        params={"page": "ä 1"},
        param_files={"key": str(key)},
        headers={"X-Site": "a"},
        bearer_token_file=str(token),
    )
    asking.ask(None)
    token.write_text("two\n")
    asking.ask(None)
    asking.close()
    first, second = server.asked
    assert (first.method, first.path, first.query, first.body) == ("POST", "/x", "page=%C3%A4+1&key=k%261", b'{"q":1}')
    assert (first.headers["x-site"], first.headers["content-type"]) == ("a", "application/json")
    assert [one.headers["authorization"] for one in (first, second)] == ["Bearer one", "Bearer two"]
    asked(server, username="u", password="p")  # noqa: S106
    assert server.asked[-1].headers["authorization"] == f"Basic {base64.b64encode(b'u:p').decode()}"


@pytest.mark.parametrize(
    ("reply", "reason", "after"),
    [
        (Reply(b"busy", 429, {"Retry-After": "7"}), "/x answers 429: busy", 7.0),
        (Reply(b"password=hunter2", 500), r"/x answers 500: password=\*\*\*", 0.0),
        (Reply(b"", 404), "/x answers 404; check url and path", 0.0),
        (Reply(b"", 304), "/x answers 304", 0.0),
        (Reply(b"", 302, {"Location": "http://other.example/"}), "/x answers 302", 0.0),
        (Reply(b"", 503), "answers 503", 1.0),
        (Reply(None), "does not respond: ProtocolError", 1.0),
    ],
)
def test_a_source_that_does_not_answer_fails(server: AnswerServer, reply: Reply, reason: str, after: float) -> None:
    """Whatever it says or does instead, the reason names it, without secrets, and its wish for a pause is kept."""
    server.say("/x", reply)
    found = asked(server)
    assert isinstance(found, FailedPoll)
    assert found.after == pytest.approx(after, abs=0.1)
    with pytest.raises(ConfigError, match=reason):
        raise ConfigError(found.reason)


def test_a_redirect_is_followed_on_the_same_server(server: AnswerServer) -> None:
    """With the same method, and nowhere else."""
    server.say("/x", Reply(b"", 307, {"Location": "/y"}))
    server.say("/y", Reply(BODY))
    assert isinstance(asked(server), Snapshot)
    assert [one.path for one in server.asked] == ["/x", "/y"]


def test_an_answer_that_does_not_end_in_time_fails(server: AnswerServer) -> None:
    """Half a body is no answer."""
    hold = threading.Event()
    server.say("/x", Reply(BODY, hold=hold))
    found = asked(server, timeout_seconds=0.2)
    hold.set()
    assert isinstance(found, FailedPoll)
    assert "does not respond in time" in found.reason


_OK = b"HTTP/1.1 200 OK\r\n"


def trickle(listening: socket.socket, begin: bytes, more: bytes) -> None:
    """Answer one request with `begin`, and then with `more`, again and again, for longer than anybody should wait."""
    connection, _ = listening.accept()
    with connection, suppress(OSError):
        connection.recv(65_536)
        connection.sendall(begin)
        for _ in range(600):
            connection.sendall(more)
            threading.Event().wait(0.05)


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (_OK, b"a"),
        (_OK, b"a: b\r\n"),
        (_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        (_OK + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\0", b"a"),
    ],
    ids=["interim responses", "one header", "headers", "length of a chunk", "name in gzip"],
)
def test_a_server_that_always_says_a_little_more_is_given_up(begin: bytes, more: bytes) -> None:
    """The time limit is one for all of the answer, so no server holds a thread, whatever it is that does not end."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        threading.Thread(target=trickle, args=(listening, begin, more), daemon=True).start()
        address = f"http://{LOOPBACK}:{listening.getsockname()[1]}"
        found = asked(AnswerServer(address), timeout_seconds=0.3)
    assert isinstance(found, FailedPoll)
    assert "does not respond in time" in found.reason


def test_headers_of_a_wrong_form_do_not_fill_the_log(server: AnswerServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer counts, however odd its headers are, and the library has nothing to say of them."""
    configure_logging(LogSettings(), service="recorder")
    server.say("/x", Reply(BODY, headers={"Content-Type": "multipart/mixed"}))
    assert isinstance(asked(server), Snapshot)
    assert capsys.readouterr().err == ""


def test_an_answer_that_is_too_large_is_refused_with_its_beginning(server: AnswerServer) -> None:
    """One byte more than allowed is too much, also if it comes compressed; no more of it is ever read."""
    assert isinstance(asked(server, max_bytes=len(BODY)), Snapshot)
    found = asked(server, max_bytes=len(BODY) - 1)
    assert isinstance(found, RefusedAnswer)
    assert (found.code, found.data, found.omitted) == (ErrorCode.TOO_LARGE, BODY[:-1], 1)
    server.say("/x", Reply(gzip.compress(bytes(10_000_000)), headers={"Content-Encoding": "gzip"}))
    found = asked(server, max_bytes=100)
    assert isinstance(found, RefusedAnswer)
    assert found.data == bytes(100)


_PACKED = gzip.compress(BODY)


@pytest.mark.parametrize(
    "body",
    [_PACKED[:-1], _PACKED[:-8], _PACKED[:12], _PACKED[:1], _PACKED + gzip.compress(b" ")[:-8], _PACKED[:-8] + bytes(8), b"{}"],
    ids=["length", "checksum", "text", "header", "second member", "wrong checksum", "no gzip"],
)
def test_an_answer_in_gzip_counts_only_with_its_checksum(server: AnswerServer, body: bytes) -> None:
    """One that is cut off before it is asked for again, even if all of its JSON is there."""
    server.say("/x", Reply(body, headers={"Content-Encoding": "gzip"}))
    found = asked(server)
    assert isinstance(found, FailedPoll)
    assert "BodyCutOff" in found.reason or "DecodeError" in found.reason


@pytest.mark.parametrize(
    "body",
    [gzip.compress(BODY[:4]) + gzip.compress(BODY[4:]), _PACKED + b"\0\0", _PACKED + b"x" * 100_000],
    ids=["two members", "padding", "something else behind"],
)
def test_an_answer_in_gzip_may_have_several_members(server: AnswerServer, body: bytes) -> None:
    """What follows the last one is ignored, as by other clients."""
    server.say("/x", Reply(body, headers={"Content-Encoding": "gzip"}))
    found = asked(server)
    assert isinstance(found, Snapshot)
    assert found.answer_hash == hashlib.sha256(BODY).hexdigest()


def test_an_answer_of_another_shape_is_refused_with_its_bytes(server: AnswerServer) -> None:
    """A page of a proxy, say, is no record."""
    server.say("/x", Reply(b"<html>maintenance</html>"))
    found = asked(server)
    assert isinstance(found, RefusedAnswer)
    assert (found.code, found.data) == (ErrorCode.BAD_JSON, b"<html>maintenance</html>")


def test_an_unchanged_answer_is_skipped_where_that_is_wanted(server: AnswerServer) -> None:
    """By what the server says to the ETag it gave, or by the bytes; without the setting, everything is recorded."""
    digest = hashlib.sha256(BODY).hexdigest()
    last = SourceState("x", "r", 1, datetime(2026, 5, 1, tzinfo=UTC), '"1"', "today", digest)
    assert isinstance(asked(server, last), Snapshot)
    assert "if-none-match" not in server.asked[-1].headers
    assert isinstance(asked(server, last, unchanged="skip"), UnchangedAnswer)
    conditions = [server.asked[-1].headers[name] for name in ("if-none-match", "if-modified-since")]
    assert conditions == ['"1"', "today"]
    server.say("/x", Reply(b"", 304), Reply(b'{"a": 2}'))
    assert isinstance(asked(server, last, unchanged="skip"), UnchangedAnswer)
    assert isinstance(asked(server, last, unchanged="skip"), Snapshot)


def test_credentials_and_expressions_are_checked_at_the_start(tmp_path: Path) -> None:
    """Nothing is sent before; a secret is never sent unencrypted to another machine unless that is allowed."""
    far: dict[str, Any] = {"name": "x", "url": "http://far.example"}
    secret = tmp_path / "secret"
    secret.write_text("s3cret-value")
    for settings, match in (
        ({"bearer_token": "s3cret-value"}, "allow_plaintext_credentials"),
        ({"param_files": {"key": str(secret)}}, "allow_plaintext_credentials"),
        ({"bearer_token_file": str(tmp_path / "none")}, "bearer_token_file"),
        ({"ca_file": str(tmp_path / "none")}, "ca_file"),
        ({"items": "a["}, "items is not"),
    ):
        with pytest.raises(ConfigError, match=match):
            HttpPoller(HttpSourceSettings.model_validate({**far, **settings}), PollClock())
