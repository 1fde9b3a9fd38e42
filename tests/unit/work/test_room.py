"""Room in memory that threads share: it is never exceeded, and everybody gets what he needs in his turn."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from libs.common.azure.endpoint import Endpoint
from libs.common.azure.host import UNCOUNTED_BYTES, AzureHost, ExchangeBroken, Outgoing
from libs.common.work.room import RoomShare, SharedRoom
from libs.local.ports import LOOPBACK
from tests.running import until

LARGE = 1_000_000


class Takers:
    """Threads that each want a share; they keep it until they are told otherwise."""

    def __init__(self, room: SharedRoom) -> None:
        self._room = room
        self.had: list[tuple[str, RoomShare]] = []
        self.refused: list[str] = []
        self._threads: list[threading.Thread] = []

    def want(self, name: str, size: int) -> None:
        """Begin to want a share; return when it is there, or is waited for."""
        before = self._room.waiting
        self._threads.append(threading.Thread(target=self._take, args=(name, size), daemon=True))
        self._threads[-1].start()
        until(lambda: name in self.names() or self._room.waiting > before, f"{name} is known")

    def names(self) -> list[str]:
        """Return who has had a share, in order."""
        return [name for name, _ in self.had]

    def end(self) -> None:
        """Wait for all."""
        for thread in self._threads:
            thread.join(30)

    def _take(self, name: str, size: int) -> None:
        share = self._room.share()
        if share.change(size):
            self.had.append((name, share))
        else:
            self.refused.append(name)


def test_who_waits_longest_is_served_first() -> None:
    """A large need is not passed by small ones; what is too large for the room gets all of it."""
    room = SharedRoom(10)
    takers = Takers(room)
    takers.want("first", 6)
    takers.want("large", 25)
    takers.want("small", 1)
    assert (takers.names(), room.free) == (["first"], 4)
    takers.had[0][1].change(0)
    until(lambda: takers.names() == ["first", "large"], "there is room for the large one")
    assert (room.free, room.waiting) == (0, 1)
    takers.had[1][1].change(9)
    until(lambda: takers.names() == ["first", "large", "small"], "what is not needed is given back")
    assert room.free == 0
    takers.end()


def test_a_share_that_grows_waits_without_what_it_has() -> None:
    """So two that grow at the same time do not wait for each other; a closed room lets everybody go on with nothing."""
    room = SharedRoom(10)
    takers = Takers(room)
    growing = room.share()
    assert growing.change(4)
    takers.want("other", 6)
    grown = threading.Thread(target=growing.change, args=(8,), daemon=True)
    grown.start()
    until(lambda: room.waiting == 1, "it waits")
    assert (growing.size, room.free) == (0, 4)
    takers.want("last", 5)
    room.close()
    grown.join(30)
    takers.end()
    assert takers.refused == ["last"]
    assert (growing.size, room.free) == (0, 4)


class _Bodies(socketserver.StreamRequestHandler):
    """Answers with a large body; whether its length is said before follows from the path."""

    def handle(self) -> None:
        """Answer one request."""
        path = self.rfile.readline().split()[1]
        while self.rfile.readline().strip():
            pass
        length = b"Content-Length: %d\r\n" % LARGE if path == b"/said" else b""
        self.wfile.write(b"HTTP/1.0 200 OK\r\n" + length + b"\r\n" + bytes(LARGE))


@contextmanager
def bodies() -> Iterator[AzureHost]:
    """Return a host whose responses are large."""
    with socketserver.ThreadingTCPServer((LOOPBACK, 0), _Bodies) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        host = AzureHost(Endpoint("http", LOOPBACK, server.server_address[1], ""), "test", "host")
        try:
            yield host
        finally:
            host.close()
            server.shutdown()


@pytest.mark.parametrize(("path", "most", "fit"), [("/said", 4 * LARGE, 3), ("/unsaid", LARGE + 1, 2)])
def test_large_bodies_wait_for_room(path: str, most: int, fit: int) -> None:
    """However many are asked for at once, there are never more than fit, and in the end all have arrived.

    One whose length is not known takes room for the longest, until it is there.
    """
    room, arrived = SharedRoom(3 * LARGE - (path == "/unsaid")), list[tuple[int, RoomShare]]()

    def ask() -> None:
        share = room.share()
        response = host.exchange(Outgoing("GET", path, {}, most, share=share))
        arrived.append((len(response.body), share))

    with bodies() as host:
        threads = [threading.Thread(target=ask, daemon=True) for _ in range(6)]
        for thread in threads:
            thread.start()
        for count in range(fit, 7):
            until(lambda: len(arrived) == count and room.waiting == 6 - count, "those that fit are there")  # noqa: B023
            arrived[count - fit][1].change(0)
        for thread in threads:
            thread.join(30)
    assert [size for size, _ in arrived] == [LARGE] * 6


def test_a_body_that_is_refused_or_broken_leaves_no_room_taken() -> None:
    """Neither does one that nobody waits for any more; small ones take none."""
    room = SharedRoom(3 * LARGE)
    with bodies() as host:
        share = room.share()
        with pytest.raises(ExchangeBroken, match="exceeds"):
            host.exchange(Outgoing("GET", "/unsaid", {}, UNCOUNTED_BYTES + 1, share=share))
        assert room.free == room.size
        room.close()
        with pytest.raises(ExchangeBroken, match="closing"):
            host.exchange(Outgoing("GET", "/said", {}, LARGE, share=share))
    assert room.free == room.size
