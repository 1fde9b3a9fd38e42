"""One connection to one node of a RabbitMQ, with one channel whose messages are confirmed; driven from a single thread.

The library is pika, kept by the makers of RabbitMQ. Its `BlockingConnection` waits for the confirmation of each message before
it sends the next; aio-pika needs an event loop. So this drives pika's `SelectConnection`, on which the other is built, by its
loop: many messages are sent, and their confirmations awaited together.

Messages stay *pending* until they are confirmed, also if `publish` gives up in between: as long as the connection lives, the
server may still confirm them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

from pika import ConnectionParameters, SelectConnection, SSLOptions, spec
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.credentials import ExternalCredentials, PlainCredentials
from pika.exceptions import AMQPError, ChannelClosedByBroker

from libs.common.errors import ConfigError, Retry
from services.sinks.kinds.amqp.faults import closed, lost, not_opened
from services.sinks.kinds.amqp.server import Address, Exchange, Server, SignIn

_SLICE_SECONDS: Final = 0.5
_LONGEST_CONNECT: Final = 5.0
_GOODBYE_SECONDS: Final = 1.0
_DROP_TURNS: Final = 20
_UNSENT_BYTES: Final = 1_048_576  # more waits until the server has taken these
_WRITE_BYTES: Final = 65_536
_BLOCKED_PAUSE: Final = 5.0


@dataclass(slots=True)
class Fates:
    """What became of messages that were sent, whatever became of their connection.

    Attributes:
        confirmed: ids of those that the server has taken, or has returned.
        returned: why it has returned some, by id.
        denied: how many it has confirmed negatively: it could not take them at the time.
    """

    confirmed: set[str] = field(default_factory=set)
    returned: dict[str, str] = field(default_factory=dict)
    denied: int = 0

    def forget(self) -> None:
        """Begin anew."""
        self.confirmed.clear()
        self.returned.clear()
        self.denied = 0


class _Wire(SelectConnection):  # type: ignore[misc] # the library has no types
    """The library's connection, with what its public side lacks: to send many frames at once, and to be dropped at once."""

    def emit(self, frames: bytes) -> None:
        """Send frames that are encoded already."""
        self._output_marshaled_frames([frames])

    def unsent(self) -> int:
        """Return how many bytes wait for the server."""
        return 0 if self.is_closed else int(self._get_write_buffer_size())

    def drop(self) -> None:
        """Begin to close without a word."""
        if not self.is_closed:
            self._terminate_stream(AMQPError("dropped"))


class Connection:
    """A connection that is open, or was; see the module."""

    def __init__(self, server: Server, address: Address, fates: Fates, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._address = address
        self._fates = fates
        self._clock = clock
        self._loop = IOLoop()
        self._wire: _Wire | None = None
        self._channel: Channel | None = None
        self._problem: Retry | ConfigError | None = None  # why it is of no more use
        self._blocked: str | None = None  # why the server takes no messages now
        self._done = False  # what is waited for
        self._tag = 0
        self.pending: dict[int, str] = {}  # delivery tag -> message id, ascending

    def __str__(self) -> str:
        return str(self._address)

    @property
    def channel_number(self) -> int:
        """The number of the channel."""
        return int(self._open_channel().channel_number)

    @property
    def frame_max(self) -> int:
        """The largest frame, as agreed with the server."""
        return int(self._open_wire().params.frame_max)

    def open(self, beat: Callable[[], None]) -> None:
        """Connect, sign in and open the channel.

        Raises:
            Retry: if the server does not respond or is too busy now.
            ConfigError: if it does not let us in.
        """
        self._loop.activate_poller()
        self._wire = _Wire(
            _parameters(self._server, self._address),
            on_open_callback=self._finish,
            on_open_error_callback=self._on_not_opened,
            on_close_callback=self._on_closed,
            custom_ioloop=self._loop,
        )
        self._wire.add_on_connection_blocked_callback(self._on_blocked)
        self._wire.add_on_connection_unblocked_callback(self._on_unblocked)
        self._await(beat)
        self._channel = self._wire.channel(on_open_callback=self._finish)
        self._channel.add_on_close_callback(self._on_channel_closed)
        self._channel.add_on_return_callback(self._on_return)
        self._await(beat)

    def declare(self, exchange: Exchange, beat: Callable[[], None]) -> None:
        """Make a durable exchange unless it is there. Raises `ConfigError` if it is there with other properties."""
        self._declare(exchange, beat, passive=False)

    def check(self, exchange: Exchange, beat: Callable[[], None]) -> None:
        """See that an exchange is there. Raises `ConfigError`."""
        self._declare(exchange, beat, passive=True)

    def _declare(self, exchange: Exchange, beat: Callable[[], None], *, passive: bool) -> None:
        if exchange.name:
            self._open_channel().exchange_declare(
                exchange.name, exchange.kind.value, passive=passive, durable=True, callback=self._finish
            )
            self._await(beat)

    def confirm(self, beat: Callable[[], None]) -> None:
        """Have the server confirm messages."""
        self._open_channel().confirm_delivery(self._on_confirmed, callback=self._finish)
        self._await(beat)

    def publish(self, messages: Iterator[tuple[str, bytes]], beat: Callable[[], None]) -> None:
        """Send messages, given as id and frames, and wait until these and all others that are pending are settled.

        Raises:
            Retry: if some are not; the connection is still of use if `is_alive`.
            ConfigError: if the server will not take them until something is reconfigured.
        """
        self._turn(0.0)
        deadline, before = self._clock() + self._server.timeout, self._progress()
        more = True
        while more or self.pending:
            self._check()
            has_room = self._open_wire().unsent() < _UNSENT_BYTES
            if more and has_room:
                more = self._send_some(messages)
            self._turn(0.0 if more and has_room else _SLICE_SECONDS)
            beat()
            if (now := self._progress()) != before:
                deadline, before = self._clock() + self._server.timeout, now
            elif self._clock() > deadline:
                self._problem = Retry(f"{self} does not confirm messages in time")
        self._check()

    def _progress(self) -> tuple[int, int]:
        return len(self.pending), 0 if self._wire is None else self._wire.unsent()

    def _send_some(self, messages: Iterator[tuple[str, bytes]]) -> bool:
        """Send some messages in one go; return whether there may be more."""
        frames: list[bytes] = []
        size = 0
        while size < _WRITE_BYTES:
            if (found := next(messages, None)) is None:
                break
            message_id, data = found
            self._tag += 1
            self.pending[self._tag] = message_id
            frames.append(data)
            size += len(data)
        if frames:
            self._open_wire().emit(b"".join(frames))
        return size >= _WRITE_BYTES

    def is_alive(self) -> bool:
        """Exchange what is due without waiting; return whether the connection is still of use."""
        if self._problem is None:
            self._turn(0.0)
        return self._problem is None

    def end(self) -> None:
        """Say goodbye, for a second at most, and close."""
        wire = self._wire
        if wire is not None and wire.is_open and self._problem is None:
            wire.close()
            deadline = self._clock() + _GOODBYE_SECONDS
            while not wire.is_closed and self._clock() < deadline:
                self._turn(_SLICE_SECONDS)
        self.drop()

    def drop(self) -> None:
        """Close without a word; idempotent."""
        if self._wire is None:
            return
        self._wire.drop()
        for _ in range(_DROP_TURNS):
            if self._wire.is_closed:
                break
            self._turn(0.0)
        self._wire = None
        self._loop.deactivate_poller()
        self._loop.close()
        self._problem = self._problem or Retry(f"{self} was left")

    def _await(self, beat: Callable[[], None]) -> None:
        """Wait until the last request is answered. Raises what has gone wrong."""
        deadline = self._clock() + self._server.timeout
        while not self._done and self._problem is None:
            self._turn(_SLICE_SECONDS)
            beat()
            if self._clock() > deadline:
                self._problem = Retry(f"{self} does not answer in time")
        self._done = False
        if self._problem is not None:
            raise self._problem

    def _check(self) -> None:
        """Raise if nothing can be sent."""
        if self._problem is not None:
            raise self._problem
        if self._blocked is not None:
            reason = f"{self} takes no messages now, it is short of something: {self._blocked}"
            raise Retry(reason, after=_BLOCKED_PAUSE, kind="blocked")

    def _turn(self, seconds: float) -> None:
        """Send and receive what is due, and wait at most `seconds` for something to be."""
        timer = self._loop.call_later(seconds, _nothing)
        self._loop.poll()
        self._loop.process_timeouts()
        self._loop.remove_timeout(timer)

    def _open_wire(self) -> _Wire:
        if self._wire is None:
            raise RuntimeError("open first")
        return self._wire

    def _open_channel(self) -> Channel:
        if self._channel is None:
            raise RuntimeError("open first")
        return self._channel

    def _finish(self, *_answer: object) -> None:
        self._done = True

    def _on_not_opened(self, _wire: object, error: BaseException) -> None:
        self._problem = self._problem or not_opened(self._server, self._address, error)

    def _on_closed(self, _wire: object, error: BaseException) -> None:
        self._problem = self._problem or lost(self._address, error)

    def _on_channel_closed(self, _channel: object, error: BaseException) -> None:
        if isinstance(error, ChannelClosedByBroker):
            self._problem = self._problem or closed(self, error.reply_code, error.reply_text)

    def _on_blocked(self, _wire: object, frame: Any) -> None:
        reason = frame.method.reason
        self._blocked = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)

    def _on_unblocked(self, *_: object) -> None:
        self._blocked = None

    def _on_return(self, _channel: object, method: Any, properties: Any, _body: bytes) -> None:
        self._fates.returned[str(properties.message_id)] = f"{method.reply_text} (code {method.reply_code})"

    def _on_confirmed(self, frame: Any) -> None:
        method = frame.method
        last = method.delivery_tag
        # None means all.
        tags = list(takewhile(lambda tag: not last or tag <= last, self.pending)) if method.multiple else [last]
        ids = [self.pending.pop(tag) for tag in tags if tag in self.pending]
        if isinstance(method, spec.Basic.Nack):
            self._fates.denied += len(ids)
        else:
            self._fates.confirmed.update(ids)


def _nothing() -> None:
    pass


def _parameters(server: Server, address: Address) -> ConnectionParameters:
    credentials = ExternalCredentials() if server.sign_in is SignIn.EXTERNAL else PlainCredentials(*server.login)
    connect = min(_LONGEST_CONNECT, server.timeout)
    return ConnectionParameters(
        host=address.host,
        port=address.port,
        virtual_host=server.vhost,
        credentials=credentials,
        heartbeat=server.heartbeat,
        ssl_options=SSLOptions(server.tls, address.host) if address.is_tls else None,
        connection_attempts=1,
        retry_delay=0,
        socket_timeout=connect,
        stack_timeout=server.timeout,
        client_properties={"connection_name": server.name, "product": "blobtide"},
    )
