"""Publish many messages to a RabbitMQ, over one connection that is made again when needed.

Until `settled` is called, messages that come again after a `Retry` are not sent again if the server has confirmed them, or if
it still may. So a full queue that takes some messages at each attempt takes all of them in the end, and none of them twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from libs.common.errors import Retry
from libs.common.messages.dead_letters import ErrorCode
from services.sinks.frame.message_sink import RefusedMessage
from services.sinks.kinds.amqp.connection import Connection, Fates
from services.sinks.kinds.amqp.faults import TooLarge
from services.sinks.kinds.amqp.frames import Frames, Kind
from services.sinks.kinds.amqp.server import Exchange, Server

_DENIED_PAUSE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is published.

    Attributes:
        exchange: where to.
        declare: whether the exchange is made if it is not there, rather than only looked up.
        kind: what the messages have in common.
        mandatory: whether the server returns messages that no queue takes.
    """

    exchange: Exchange
    declare: bool
    kind: Kind
    mandatory: bool = True


@dataclass(frozen=True, slots=True)
class AmqpMessages:
    """Messages as columns of equal length: routing keys, ids, times in seconds since 1970, and bodies."""

    keys: Sequence[str]
    ids: Sequence[str]
    seconds: Sequence[int]
    bodies: Sequence[bytes]


class AmqpClient:
    """Belongs to one thread. Nothing happens before `open` or the first `publish`."""

    def __init__(self, server: Server, outgoing: Outgoing, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._outgoing = outgoing
        self._clock = clock
        self._fates = Fates()
        self._connection: Connection | None = None
        self._frames: Frames | None = None
        self._largest = server.most_bytes
        self._next = 0  # the address to try first
        self.beat: Callable[[], None] = lambda: None

    def open(self) -> None:
        """Connect, sign in and check the exchange, unless connected.

        Raises:
            Retry: if no node responds, or they are too busy now.
            ConfigError: if one does not let us in, or has no such exchange.
        """
        if self._connection is not None and self._connection.is_alive():
            return
        self.drop()
        connection = self._connected()
        try:
            if self._outgoing.declare:
                connection.declare(self._outgoing.exchange, self.beat)
            else:
                connection.check(self._outgoing.exchange, self.beat)
            connection.confirm(self.beat)
        except BaseException:
            connection.drop()
            raise
        outgoing = self._outgoing
        number, most = connection.channel_number, connection.frame_max
        self._frames = Frames(number, most, outgoing.exchange.name, outgoing.kind, mandatory=outgoing.mandatory)
        self._connection = connection

    def declare(self) -> None:
        """Make the exchange unless it is there, over a connection of its own. Raises as `open` does."""
        connection = self._connected()
        try:
            connection.declare(self._outgoing.exchange, self.beat)
        finally:
            connection.end()

    def publish(self, messages: AmqpMessages) -> list[RefusedMessage]:
        """Send all messages and return those permanently refused; the server has all others.

        Raises:
            Retry: if some may not have arrived; publish all of them again.
            ConfigError: if the server will not accept them until something is reconfigured.
        """
        self.open()
        connection = self._connection
        assert connection is not None  # noqa: S101
        refused = {at: self._too_large(at, body) for at, body in enumerate(messages.bodies) if len(body) > self._largest}
        self._fates.denied = 0
        try:
            connection.publish(self._encoded(messages, connection, refused), self.beat)
        except BaseException as error:
            self._after(error, connection)
            raise
        if self._fates.denied:
            reason = f"{connection} could not take {self._fates.denied} messages: a queue is full, or has no quorum"
            raise Retry(reason, after=_DENIED_PAUSE, kind="nack")
        return [*refused.values(), *self._returned(messages)]

    def settled(self) -> None:
        """Forget what became of messages: none of those so far comes again because of a `Retry`."""
        self._fates.forget()

    def keep_alive(self) -> None:
        """Exchange heartbeats with the server; call every few seconds. Never raises for faults from outside."""
        if self._connection is not None and not self._connection.is_alive():
            self.drop()

    def close(self) -> None:
        """Say goodbye and disconnect; idempotent."""
        if self._connection is not None:
            self._connection.end()
            self._connection = None

    def drop(self) -> None:
        """Disconnect without a word; idempotent."""
        if self._connection is not None:
            self._connection.drop()
            self._connection = None

    def _connected(self) -> Connection:
        """Connect to the first node that responds."""
        addresses = self._server.addresses
        failures: list[Retry] = []
        for _ in addresses:
            connection = Connection(self._server, addresses[self._next], self._fates, self._clock)
            try:
                connection.open(self.beat)
            except Retry as failure:
                connection.drop()
                failures.append(failure)
                self._next = (self._next + 1) % len(addresses)
            except BaseException:
                connection.drop()
                raise
            else:
                return connection
        raise Retry("; ".join(map(str, failures)), after=failures[0].after, kind=failures[0].kind)

    def _encoded(
        self, messages: AmqpMessages, connection: Connection, refused: dict[int, RefusedMessage]
    ) -> Iterator[tuple[str, bytes]]:
        """Yield the id and the frames of each message that has to be sent."""
        assert self._frames is not None  # noqa: S101
        encode, confirmed, returned = self._frames.of, self._fates.confirmed, self._fates.returned
        pending = frozenset(connection.pending.values())
        columns = zip(messages.keys, messages.ids, messages.seconds, messages.bodies, strict=True)
        for at, (key, message_id, seconds, body) in enumerate(columns):
            if message_id in confirmed or message_id in pending or message_id in returned or at in refused:
                continue
            yield message_id, encode(key, message_id, seconds, body)

    def _returned(self, messages: AmqpMessages) -> Iterator[RefusedMessage]:
        returned = self._fates.returned
        if returned:
            for at, message_id in enumerate(messages.ids):
                if (reason := returned.get(message_id)) is not None:
                    text = f"no queue takes messages with the routing key {messages.keys[at]}: {reason}"
                    yield RefusedMessage(at, ErrorCode.REFUSED, text)

    def _after(self, error: BaseException, connection: Connection) -> None:
        """Keep the connection if it is still of use, for what is pending there."""
        if isinstance(error, TooLarge):
            self._largest = min(self._largest, error.most)
        if not isinstance(error, Retry) or not connection.is_alive():
            self.drop()

    def _too_large(self, at: int, body: bytes) -> RefusedMessage:
        reason = f"a message of {len(body)} bytes is more than the {self._largest} that the server takes"
        return RefusedMessage(at, ErrorCode.TOO_LARGE, reason)
