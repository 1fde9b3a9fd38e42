"""How messages get to peers: acknowledged one by one (dealer), or queued for who is there (push, pub)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import zmq

from libs.common.errors import CodecError, Retry
from libs.common.messages.dead_letters import ErrorCode
from libs.common.security.redaction import excerpt
from services.sinks.frame.message_sink import RefusedMessage
from services.sinks.kinds.zeromq.connection import Connection
from services.sinks.kinds.zeromq.protocol import Answer, Numbering, Reply
from services.sinks.kinds.zeromq.settings import Mode

_REASON_CHARACTERS: Final = 200


class ZeroMqMessage(NamedTuple):
    """A row as a message, without the header."""

    identity: str
    topic: bytes
    payload: bytes


class Delivery(ABC):
    """Sends messages over a connection, with headers that number them."""

    def __init__(self, connection: Connection, numbering: Numbering) -> None:
        self.numbering = numbering
        self._connection = connection
        self._departures = 0

    def begin(self) -> None:
        """Begin a write: from now on, a peer that leaves may take messages of this write with it."""
        self._connection.look()
        self._departures = self._connection.departures

    @abstractmethod
    def send(self, messages: Sequence[ZeroMqMessage]) -> list[RefusedMessage]:
        """Send messages in order, and return those that a peer refuses for good.

        Raises:
            Retry: if some may not have arrived; send all of the write again.
            ConfigError: if the peer does not let us in.
        """

    def _sends(self, message: ZeroMqMessage) -> bool:
        """Queue a message with its header, and return whether there was room for it."""
        identity, topic, payload = message
        if not self._connection.send(topic, self.numbering.header(identity, topic), payload):
            return False
        self.numbering.sent(topic)
        return True

    def _stop_if_lost(self) -> None:
        if self._connection.departures > self._departures:
            raise Retry(f"{self._connection.line}: a peer left, perhaps with messages that were on their way", kind="peer_left")


class Queued(Delivery):
    """Queues messages for the peers that are there. Nobody acknowledges them."""

    def send(self, messages: Sequence[ZeroMqMessage]) -> list[RefusedMessage]:
        """Queue messages, and wait while a queue is full."""
        connection, is_pub = self._connection, self._connection.line.mode is Mode.PUB
        nobody = "nobody has subscribed" if is_pub else "nobody is there"
        connection.wait_until(connection.has_audience, nobody)
        for message in messages:
            if not self._sends(message):
                self._wait_for_room(message, 0 if is_pub else zmq.POLLOUT)
        connection.look()
        if not is_pub:
            self._stop_if_lost()
        elif not connection.has_audience():
            raise Retry(f"{connection.line}: {nobody} any more", kind="no_peer")
        return []

    def _wait_for_room(self, message: ZeroMqMessage, wake: int) -> None:
        self._connection.wait_until(lambda: self._sends(message), "the queue for a peer stays full", wake)


@dataclass(slots=True)
class _Exchange:
    """What became of messages so far."""

    messages: Sequence[ZeroMqMessage]
    window: int
    sent: int = 0
    waiting: dict[int, int] = field(default_factory=dict)  # sequence -> number of the message; ascending
    refused: list[RefusedMessage] = field(default_factory=list)

    @property
    def may_send(self) -> bool:
        """Whether there is another message, and room in the window."""
        return self.sent < len(self.messages) and len(self.waiting) < self.window

    @property
    def is_done(self) -> bool:
        """Whether every message is settled."""
        return self.sent == len(self.messages) and not self.waiting


class Acknowledged(Delivery):
    """Sends messages and waits until a peer has acknowledged each one."""

    def send(self, messages: Sequence[ZeroMqMessage]) -> list[RefusedMessage]:
        """Send as many messages at a time as may be unacknowledged, until all are settled."""
        connection = self._connection
        exchange = _Exchange(messages, connection.line.high_water_mark)

        def proceeds() -> bool:
            self._stop_if_lost()
            return self._send_some(exchange) | self._take_replies(exchange)

        while not exchange.is_done:
            wake = zmq.POLLIN | (zmq.POLLOUT if exchange.may_send else 0)
            connection.wait_until(proceeds, "no acknowledgement" if exchange.waiting else "nobody takes a message", wake)
        return sorted(exchange.refused, key=lambda one: one.message)

    def _send_some(self, exchange: _Exchange) -> bool:
        """Send what may be sent, and return whether that was anything."""
        before = exchange.sent
        while exchange.may_send:
            if not self._sends(exchange.messages[exchange.sent]):
                break
            exchange.waiting[self.numbering.sequence] = exchange.sent
            exchange.sent += 1
        return exchange.sent > before

    def _take_replies(self, exchange: _Exchange) -> bool:
        """Settle messages, and return whether there were any. Replies about other sessions or settled messages say nothing."""
        any_settled = False
        while (frames := self._connection.receive()) is not None:
            reply = self._read(frames)
            if reply.session != self.numbering.session:
                continue
            for sequence in reply.among(exchange.waiting):
                if reply.answer is Answer.LATER:
                    reason = excerpt(reply.reason, _REASON_CHARACTERS)
                    raise Retry(f"{self._connection.line} cannot store messages now: {reason}", kind="later")
                message = exchange.waiting.pop(sequence)
                any_settled = True
                if reply.answer is Answer.REFUSE:
                    reason = excerpt(reply.reason, _REASON_CHARACTERS) or "the peer gives no reason"
                    exchange.refused.append(RefusedMessage(message, ErrorCode.REFUSED, reason))
        return any_settled

    def _read(self, frames: Sequence[bytes]) -> Reply:
        try:
            return Reply.read(frames)
        except CodecError as error:
            raise Retry(f"{self._connection.line} breaks the protocol: {error}", kind="protocol") from error
