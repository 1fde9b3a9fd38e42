"""A socket with what ZeroMQ tells about its peers: whether one is there, who left, and why one cannot be talked to.

ZeroMQ never says what became of a message. It silently drops what is on its way to a peer that leaves, so whoever sends watches
`departures`. Messages are only queued for peers that are connected (ZMQ_IMMEDIATE), not for those that may come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from errno import EADDRINUSE
from types import MappingProxyType
from typing import Any, Final

import structlog
import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import recv_monitor_message

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from services.sinks.kinds.zeromq.keys import CurveKeys
from services.sinks.kinds.zeromq.protocol import LARGEST_REPLY
from services.sinks.kinds.zeromq.settings import Mode

log = structlog.get_logger(__name__)

_MORE_TO_COME: Final = int(zmq.NOBLOCK | zmq.SNDMORE)  # plain integers: to combine flags takes longer than to send a frame
_LAST: Final = int(zmq.NOBLOCK)
_TYPES: Final = MappingProxyType({Mode.DEALER: zmq.DEALER, Mode.PUSH: zmq.PUSH, Mode.PUB: zmq.XPUB})
_RECONNECT_MS: Final = 100
_LONGEST_RECONNECT_MS: Final = 2_000
_SILENT_HEARTBEATS: Final = 3
_SLICE_MS: Final = 500
_BLIND_MS: Final = 10  # a publisher's socket does not tell when a slow subscriber has room again
_NO_HANDSHAKE: Final = MappingProxyType(
    {
        zmq.Event.HANDSHAKE_FAILED_AUTH: "it does not let our key in",
        zmq.Event.HANDSHAKE_FAILED_PROTOCOL: "the handshake fails: do both sides use CURVE, and do the socket types fit?",
        zmq.Event.HANDSHAKE_FAILED_NO_DETAIL: "it ends the connection during the handshake: are the CURVE keys right?",
    }
)
_WATCHED: Final = sum(_NO_HANDSHAKE) | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED


@dataclass(frozen=True, slots=True)
class Line:
    """Where the peers are and how to talk to them."""

    mode: Mode
    endpoints: tuple[str, ...]
    bind: bool = False
    keys: CurveKeys | None = None
    high_water_mark: int = 1_000
    wait_for_slow: bool = False
    timeout_seconds: float = 10.0
    linger_seconds: float = 5.0
    heartbeat_seconds: float = 5.0

    def __str__(self) -> str:
        return f"zeromq {'at' if self.bind else 'peer'} {', '.join(self.endpoints)}"


class Connection:
    """An open socket. All calls come from one thread."""

    def __init__(self, line: Line, clock: Callable[[], float] = time.monotonic) -> None:
        self.line = line
        self.departures = 0  # of peers, since the start
        self.beat: Callable[[], None] = lambda: None
        self._clock = clock
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(_TYPES[line.mode])
        self._monitor = self._socket.get_monitor_socket(_WATCHED)
        self._guard: ThreadAuthenticator | None = None
        self._arrivals = 0
        self._subscribed: set[bytes] = set()
        self._trouble: zmq.Event | None = None  # the last handshake that failed since one succeeded
        self._is_failing = False

    def open(self) -> None:
        """Bind; or connect, and wait for a peer.

        Raises:
            ServerUnreachable: if an address is in use, or no peer answers in time.
            ConfigError: if the peer does not let us in, or an address cannot be used.
        """
        try:
            self._attach()
            if not self.line.bind:
                self.wait_until(lambda: self._arrivals > self.departures, "no answer")
        except Retry as error:
            self.close(linger=False)
            raise ServerUnreachable(f"{error}; is it running, and are the sink's endpoints right?") from error
        except BaseException:
            self.close(linger=False)
            raise

    def _attach(self) -> None:
        line = self.line
        if line.keys is not None and line.keys.server is None:
            self._guard = _guard(self._context, line.keys)
        for option, value in _options(line).items():
            self._socket.setsockopt(option, value)
        for endpoint in line.endpoints:
            try:
                (self._socket.bind if line.bind else self._socket.connect)(endpoint)
            except zmq.ZMQError as error:
                if error.errno == EADDRINUSE:
                    raise ServerUnreachable(f"{endpoint} is in use: does another sink or process listen there?") from error
                raise ConfigError(f"endpoints: {endpoint} cannot be used: {error.strerror}") from error

    def send(self, topic: bytes, header: bytes, payload: bytes) -> bool:
        """Queue a message, and return whether there was room for it."""
        send = self._socket.send
        try:
            send(topic, _MORE_TO_COME)
        except zmq.Again:
            return False
        # There is room for a message or there is none: ZeroMQ takes the other frames of one that it has begun to take.
        send(header, _MORE_TO_COME)
        send(payload, _LAST)
        return True

    def receive(self) -> list[bytes] | None:
        """Return what a peer says; None if none says anything."""
        try:
            return self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def has_audience(self) -> bool:
        """Return whether somebody is there to receive messages; for pub, whether anything is subscribed to."""
        return bool(self._subscribed) if self.line.mode is Mode.PUB else self._arrivals > self.departures

    def look(self) -> None:
        """Take notice of who came, left, or subscribed."""
        with suppress(zmq.Again):
            while True:
                self._take(recv_monitor_message(self._monitor, zmq.NOBLOCK)["event"])
        if self.line.mode is Mode.PUB:
            while (said := self.receive()) is not None:
                self._take_subscription(said[0])

    def wait_until(self, happened: Callable[[], bool], otherwise: str, wake: int = zmq.POLLIN) -> None:
        """Wait for something, looking at events and beating meanwhile.

        `wake` are the events of the socket after which it may have happened; 0: none tells.

        Raises:
            Retry: if it does not happen in time; `otherwise` becomes part of the message.
            ConfigError: if nobody is there because our key is refused.
        """
        deadline = self._clock() + self.line.timeout_seconds
        self.look()
        while not happened():
            self._refuse_locked_door()
            if self._clock() > deadline:
                raise Retry(f"{self.line}: {otherwise}{self._why()}", kind="no_progress" if self.has_audience() else "no_peer")
            self._wait(wake)
            self.look()

    def _wait(self, wake: int) -> None:
        """Wait until the socket or its monitor has news, or a moment has passed."""
        self.beat()
        poller = zmq.Poller()
        poller.register(self._socket, wake)
        poller.register(self._monitor, zmq.POLLIN)
        poller.poll(_SLICE_MS if wake else _BLIND_MS)

    def close(self, *, linger: bool = True) -> None:
        """Hand over what is queued, for a limited time, and close; idempotent."""
        if self._context.closed:
            return
        seconds = self.line.linger_seconds if linger else 0.0
        started = self._clock()
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=round(seconds * 1_000))
        if self._guard is not None:
            self._guard.stop()
        self._context.term()
        if seconds and self._clock() - started >= seconds:
            log.warning("stopped before all queued messages were handed over", to=str(self.line))

    def _take(self, event: int) -> None:
        if event == zmq.Event.HANDSHAKE_SUCCEEDED:
            self._arrivals += 1
            self._trouble, self._is_failing = None, False
        elif event == zmq.Event.DISCONNECTED:
            # After a failed handshake, a connection ends that never was one of a peer.
            self.departures += not self._is_failing
            self._is_failing = False
        else:
            self._trouble, self._is_failing = zmq.Event(event), True

    def _take_subscription(self, said: bytes) -> None:
        match said[:1]:
            case b"\x01":
                self._subscribed.add(said[1:])
            case b"\x00":
                self._subscribed.discard(said[1:])
            case _:
                pass  # a message from a subscriber, which means nothing

    def _refuse_locked_door(self) -> None:
        if self._trouble == zmq.Event.HANDSHAKE_FAILED_AUTH and not self.line.bind and self._arrivals <= self.departures:
            raise ConfigError(f"{self.line}: {_NO_HANDSHAKE[self._trouble]}; add the sink's public key to those it accepts")

    def _why(self) -> str:
        return "" if self._trouble is None else f" ({_NO_HANDSHAKE[self._trouble]})"


def _options(line: Line) -> Mapping[int, int | bytes]:
    heartbeat = round(line.heartbeat_seconds * 1_000)
    options: dict[int, int | bytes] = {
        zmq.IMMEDIATE: 1,
        zmq.IPV6: 1,
        zmq.SNDHWM: line.high_water_mark,
        zmq.RECONNECT_IVL: _RECONNECT_MS,
        zmq.RECONNECT_IVL_MAX: _LONGEST_RECONNECT_MS,
        zmq.HEARTBEAT_IVL: heartbeat,
        zmq.HEARTBEAT_TIMEOUT: _SILENT_HEARTBEATS * heartbeat,
        zmq.LINGER: 0,  # until it is closed on purpose
    }
    if line.mode is not Mode.PUSH:
        options[zmq.MAXMSGSIZE] = LARGEST_REPLY
    if line.mode is Mode.PUB:
        options[zmq.XPUB_NODROP] = int(line.wait_for_slow)
    if line.keys is not None:
        options |= {zmq.CURVE_PUBLICKEY: line.keys.public, zmq.CURVE_SECRETKEY: line.keys.secret}
        options |= {zmq.CURVE_SERVER: 1} if line.keys.server is None else {zmq.CURVE_SERVERKEY: line.keys.server}
    return options


def _guard(context: zmq.Context[Any], keys: CurveKeys) -> ThreadAuthenticator:
    """Start to decide which keys are let in."""
    guard = ThreadAuthenticator(context)
    guard.configure_curve_callback(credentials_provider=_Clients(keys.clients))
    guard.start()
    return guard


@dataclass(frozen=True, slots=True)
class _Clients:
    """Who may connect, in the form in which the library asks."""

    keys: frozenset[bytes] | None

    def callback(self, domain: str, key: bytes) -> bool:
        """Return whether a key (Z85) is let in."""
        del domain
        return self.keys is None or key in self.keys
