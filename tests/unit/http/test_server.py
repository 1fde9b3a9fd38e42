"""The server of APIs: what it takes, and what it does with what it should not take."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.request import urlopen

import pytest

from libs.common.errors import ConfigError
from libs.common.http.server.connection import HttpLimits
from libs.common.http.server.messages import HttpAnswer, RequestHead, problem
from libs.common.http.server.server import HttpPlace, HttpServer, server_tls
from libs.local.ports import LOOPBACK
from tests.certificates import server_tls as certificate
from tests.http_wire import WireClient, ask
from tests.running import until


@dataclass
class EchoSite:
    """Answers with the body; holds some back, and refuses others before their body."""

    go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    counted: list[tuple[str | None, int]] = field(default_factory=list)

    def refusal(self, head: RequestHead) -> HttpAnswer | None:
        """Refuse one path."""
        return problem(HTTPStatus.FORBIDDEN, "no") if head.path == "/refused" else None

    async def answer(self, head: RequestHead, body: bytes) -> HttpAnswer:
        """Echo."""
        self.asked.append(head.path)
        while head.path == "/slow" and not self.go_on.is_set():  # noqa: ASYNC110 - the event belongs to another thread
            await asyncio.sleep(0.01)
        if head.path == "/crash":
            raise LookupError("a bug")
        return HttpAnswer(200, body, "text/plain")

    def answered(self, head: RequestHead | None, status: int) -> None:
        """Count."""
        self.counted.append((None if head is None else head.path, status))


@contextmanager
def serving(site: EchoSite, tls: ssl.SSLContext | None = None, **limits: float) -> Iterator[HttpServer]:
    """Run a server."""
    server = HttpServer(HttpPlace(LOOPBACK, 0, "some.api", tls), site, HttpLimits(**limits))  # type: ignore[arg-type]
    server.start()
    try:
        yield server
    finally:
        site.go_on.set()
        server.stop(2.0)


@pytest.fixture
def site() -> EchoSite:
    """Return a site."""
    return EchoSite()


def test_requests_follow_each_other_on_one_connection(site: EchoSite) -> None:
    """With bodies of a length or in chunks, also if the next one is sent before the answer; a query is no part of the path."""
    chunked = b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with serving(site) as server, WireClient(server.port) as client:
        client.send(b"POST /a?x=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi" + chunked)
        answers = [client.answer(), client.answer()]
        assert [answer and (answer.status, answer.body) for answer in answers] == [(200, b"hi"), (200, b"abcde")]
        assert site.asked == ["/a", "/b"]
        assert answers[0] is not None
        assert answers[0].headers["x-content-type-options"] == "nosniff"


def test_what_is_asked_for_may_be_a_whole_address(site: EchoSite) -> None:
    """As some proxies write it: the server takes the path of it, whichever host it names."""
    with serving(site) as server:
        for target in ("http://x/a?b=http://y/", "HTTPS://x:1/a", "/a", "//a"):
            assert ask(server.port, "GET", target).status == 200
        assert site.asked == ["/a", "/a", "/a", "//a"]


def test_a_client_that_waits_for_leave_to_send_gets_it_only_if_the_body_is_wanted(site: EchoSite) -> None:
    """As curl does with large bodies."""
    expecting = b" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    with serving(site) as server, WireClient(server.port) as client, WireClient(server.port) as other:
        client.send(b"POST /a" + expecting)
        assert client.socket.recv(1_000).startswith(b"HTTP/1.1 100 ")
        client.send(b"hi")
        found = client.answer()
        assert found is not None
        assert found.body == b"hi"
        other.send(b"POST /refused" + expecting)
        assert other.socket.recv(1_000).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"c" * 20_000, 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n" + b"x" * 2_048, 413),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", 408),
        (b"GET / HTT", 408),
    ],
)
def test_what_is_no_request_is_answered_and_the_connection_closed(site: EchoSite, sent: bytes, status: int) -> None:
    """Nothing of it reaches the site."""
    with serving(site, body_bytes=2_000, seconds=0.3) as server, WireClient(server.port) as client:
        client.send(sent)
        answer = client.answer()
        assert answer is not None
        assert (answer.status, answer.json["status"]) == (status, status)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["detail"]
        assert client.is_closed()
        assert site.asked == []
        assert [found for _, found in site.counted] == [status]


def test_a_large_body_that_is_refused_does_not_hide_the_answer(site: EchoSite) -> None:
    """The client still sees why, although it was sending when it was refused."""
    with serving(site) as server:
        answer = ask(server.port, "POST", "/refused", b"x" * 900_000)
        assert (answer.status, answer.json["detail"]) == (403, "no")


def test_a_client_that_sends_slowly_is_cut_off_in_time(site: EchoSite) -> None:
    """However often it sends a little; and a connection without a request just ends."""
    with serving(site, seconds=0.5) as server, WireClient(server.port) as slow, WireClient(server.port) as idle:
        slow.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        slow.socket.settimeout(0.1)
        until(lambda: _trickle(slow), "the client is cut off")
        assert idle.is_closed()
        assert site.asked == []


def test_an_answer_that_nobody_takes_holds_no_connection(site: EchoSite) -> None:
    """It is thrown away when its time is over: otherwise clients that read nothing could use up all files and memory."""
    body = b"x" * 7_000_000  # more than the system takes for a client that does not read
    with serving(site, connections=1, seconds=0.5, body_bytes=len(body)) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect((LOOPBACK, server.port))
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert _status_when(server.port, lambda status: status == 200)
        client.settimeout(20.0)
        assert sum(map(len, iter(lambda: client.recv(65_536), b""))) < len(body)


def _trickle(client: WireClient) -> bool:
    """Send one more header; return whether the server has answered or closed."""
    try:
        client.send(b"A: b\r\n")
        return bool(client.socket.recv(1) or True)
    except TimeoutError:
        return False
    except OSError:
        return True


def test_there_are_only_so_many_connections_and_bytes_at_once(site: EchoSite) -> None:
    """Those beyond are told to come again, and do when others have ended."""
    with serving(site, connections=2, body_bytes=1_000, bytes_at_once=1_500) as server:
        head = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        with WireClient(server.port) as first:
            first.send(head + b"x" * 1_000)
            until(lambda: site.asked == ["/slow"], "it is worked on")
            busy = ask(server.port, "POST", "/", b"x" * 501)
            assert (busy.status, busy.headers["retry-after"]) == (429, "1")
            with WireClient(server.port):
                assert _status_when(server.port, lambda status: status == 503)
            site.go_on.set()
            found = first.answer()
            assert found is not None
            assert found.status == 200
        assert _status_when(server.port, lambda status: status == 200)


def _status_when(port: int, right: Callable[[int], bool]) -> bool:
    """Ask until the answer is right: the server may not know yet that a connection has begun, or ended."""
    until(lambda: right(ask(port, "POST", "/", b"x" * 501).status), "the answer")
    return True


def test_what_takes_too_long_or_crashes_is_answered(site: EchoSite) -> None:
    """The server goes on."""
    with serving(site, answer_seconds=0.2) as server:
        late, crashed = ask(server.port, "GET", "/slow"), ask(server.port, "GET", "/crash")
        assert (late.status, late.headers["retry-after"]) == (503, "1")
        assert (crashed.status, "LookupError" in crashed.body.decode()) == (500, False)
        assert ask(server.port, "GET", "/").status == 200


def test_a_head_is_answered_without_a_body(site: EchoSite) -> None:
    """As HTTP has it."""
    with serving(site) as server, WireClient(server.port) as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
        found = b"".join(iter(lambda: client.socket.recv(1_000), b""))
        assert found.startswith(b"HTTP/1.1 200 ")
        assert b"content-length: 2" in found.lower()
        assert found.endswith(b"\r\n\r\n")


def test_a_stop_lets_requests_end_and_closes_idle_connections(site: EchoSite) -> None:
    """Nothing new is accepted meanwhile."""
    with serving(site) as server, WireClient(server.port) as idle, WireClient(server.port) as busy:
        busy.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: site.asked == ["/slow"], "it is worked on")
        stopping = threading.Thread(target=server.stop, args=(30.0,))
        stopping.start()
        assert idle.is_closed()
        site.go_on.set()
        answer = busy.answer()
        stopping.join()
        assert answer is not None
        assert answer.status == 200
        with pytest.raises(OSError, match="refused"):
            WireClient(server.port)


def test_tls_with_a_certificate(site: EchoSite, tmp_path: Path) -> None:
    """And who speaks plainly is not answered."""
    made = certificate(tmp_path)
    tls = server_tls(made.certificate, made.key)
    with serving(site, tls) as server:
        trusting = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        with urlopen(f"https://localhost:{server.port}/x", context=trusting, timeout=20) as answer:
            assert answer.status == 200
        with WireClient(server.port) as plain:
            plain.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert plain.is_closed()
        assert site.asked == ["/x"]


def test_settings_that_cannot_be_used_are_errors_of_the_settings(site: EchoSite, tmp_path: Path) -> None:
    """They say which."""
    with serving(site) as server, pytest.raises(ConfigError, match=r"some\.api\.port an address that is free"):
        HttpServer(HttpPlace(LOOPBACK, server.port, "some.api"), site, HttpLimits()).start()
    with pytest.raises(ConfigError, match=r"some\.api\.host"):
        HttpServer(HttpPlace("no.such.host.invalid", 0, "some.api"), site, HttpLimits()).start()
    made = certificate(tmp_path)
    for one, other in ((made.key, made.key), (made.certificate, tmp_path / "none"), (made.certificate, tmp_path / "ca.pem")):
        with pytest.raises(ConfigError, match="cannot use certificate"):
            server_tls(one, other)
