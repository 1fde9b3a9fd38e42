"""Deliver chunks over several connections: some in flight at a time, to the next server where one fails.

A chunk that was not acknowledged before its connection broke is sent again, over another connection, with the same id. Chunks
acknowledged before a delivery failed are not sent again when the same delivery is repeated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from libs.common.errors import Retry
from libs.common.http.hosts import Hosts
from services.sinks.kinds.fluent.connection import Access, Connection


@dataclass(frozen=True, slots=True)
class ChunkMessage:
    """A chunk, ready to be sent."""

    id: str
    message: bytes


@dataclass(frozen=True, slots=True)
class Servers:
    """Where chunks go.

    Attributes:
        addresses: equivalent servers.
        access: how to connect to them.
        connections: how many there are at a time.
        in_flight: how many chunks may be unacknowledged.
    """

    addresses: tuple[str, ...]
    access: Access
    connections: int = 1
    in_flight: int = 8


class ForwardClient:
    """Connections that are made when needed. All calls come from one thread."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._hosts = Hosts(servers.addresses, servers.access.clock)
        self._connections: list[Connection | None] = [None] * servers.connections
        self._turn = 0
        self._failures = 0
        self._acknowledged: set[str] = set()
        self.beat: Callable[[], None] = lambda: None

    def open(self) -> None:
        """Connect to one of the servers, unless connected.

        Raises:
            Retry: if none of them answers.
            ConfigError: if one does not let us in.
        """
        if not any(self._connections):
            self._connections[0] = self._connected()

    def deliver(self, chunks: Iterable[ChunkMessage]) -> None:
        """Send chunks and return when all are acknowledged.

        Raises:
            Retry: if some may not have arrived; deliver the same chunks again.
            ConfigError: if a server does not let us in.
        """
        self._failures = 0
        waiting: deque[tuple[ChunkMessage, Connection]] = deque()
        sent: set[str] = set()  # a message that comes twice is sent once
        try:
            for chunk in chunks:
                if chunk.id in self._acknowledged or chunk.id in sent:
                    continue
                sent.add(chunk.id)
                while len(waiting) >= self._servers.in_flight:
                    self._settle(waiting)
                self._send(chunk, waiting)
            while waiting:
                self._settle(waiting)
        except BaseException:
            self.close()  # what is still on its way would be taken for an answer to what comes next
            raise

    def forget(self) -> None:
        """Send all chunks again from now on, whatever was acknowledged."""
        self._acknowledged.clear()

    def close(self) -> None:
        """Close all connections; idempotent."""
        for connection in filter(None, self._connections):
            connection.close()
        self._connections = [None] * self._servers.connections

    def _beat(self) -> None:
        self.beat()  # whatever it is by then

    def _send(self, chunk: ChunkMessage, waiting: deque[tuple[ChunkMessage, Connection]]) -> None:
        """Send a chunk over the connection whose turn it is, or over a new one; what was lost with a broken one goes again."""
        left = [chunk]
        while left:
            place = self._turn % self._servers.connections
            connection = self._connections[place]
            if connection is None:
                connection = self._connections[place] = self._connected()
            try:
                connection.send(left[0].message)
                waiting.append((left[0], connection))
                self._turn += 1
                if not connection.keeps_alive:
                    self._acknowledge(waiting.pop())
                    self._drop(connection)
                left.pop(0)
            except Retry as error:
                left += self._lost(connection, waiting, error)

    def _settle(self, waiting: deque[tuple[ChunkMessage, Connection]]) -> None:
        """Wait for the oldest chunk."""
        chunk, connection = waiting[0]
        try:
            self._acknowledge((chunk, connection))
            waiting.popleft()
        except Retry as error:
            for again in self._lost(connection, waiting, error):
                self._send(again, waiting)

    def _acknowledge(self, sent: tuple[ChunkMessage, Connection]) -> None:
        chunk, connection = sent
        connection.wait_for(chunk.id)
        self._acknowledged.add(chunk.id)
        self._hosts.worked(connection.address)
        self.beat()

    def _lost(
        self, connection: Connection, waiting: deque[tuple[ChunkMessage, Connection]], error: Retry
    ) -> list[ChunkMessage]:
        """Drop a connection and return the chunks that wait on it. Raises `Retry` if that happens too often."""
        self._drop(connection)
        self._hosts.failed(connection.address)
        self._failures += 1
        if self._failures > len(self._servers.addresses) + self._servers.connections:
            raise Retry(str(error), after=self._hosts.pause(), kind=error.kind) from error
        lost = [chunk for chunk, on in waiting if on is connection]
        kept = [(chunk, on) for chunk, on in waiting if on is not connection]
        waiting.clear()
        waiting.extend(kept)
        return lost

    def _drop(self, connection: Connection) -> None:
        connection.close()
        self._connections = [None if one is connection else one for one in self._connections]

    def _connected(self) -> Connection:
        """Connect to the first server that answers. Raises `Retry`, `ConfigError`."""
        reason: Retry | None = None
        for address in self._hosts.candidates():
            try:
                return Connection.made(address, self._servers.access, self._beat)
            except Retry as error:
                self._hosts.failed(address)
                reason = error
        raise Retry(str(reason), after=self._hosts.pause(), kind=reason.kind if reason else "unreachable") from reason
