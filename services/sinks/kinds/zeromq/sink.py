"""The ``zeromq`` sink: one message per row, by DEALER to a peer that acknowledges, by PUSH, or by PUB.

A message has three frames: topic, header and payload. The header is JSON with the identity of the row, the same in every
replay, and with the number of the message in its session, by which a receiver notices what it has missed.

Promise: with ``mode: dealer`` at least once, because a row is written when a ROUTER peer has acknowledged its message. With
``push`` and ``pub`` nobody acknowledges, and ZeroMQ does not tell what became of a message: a row is written when it is queued
for the peers that are there. While nobody is there, or a queue of ``push`` is full, the sink waits, so nothing is dropped
silently. What is queued or on its way is lost if this process is killed or the peer ends. A subscriber that is too slow loses
messages as well, unless ``wait_for_slow`` makes everybody wait for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urlsplit

import structlog

from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.row_type import RowType
from libs.common.security.transport import is_loopback
from services.sinks.frame.contract import Outcome, Part
from services.sinks.frame.kind import Promise
from services.sinks.frame.message_sink import MessageSink, RefusedMessage
from services.sinks.kinds.zeromq.connection import Connection, Line
from services.sinks.kinds.zeromq.delivery import Acknowledged, Delivery, Queued, ZeroMqMessage
from services.sinks.kinds.zeromq.keys import read_keys
from services.sinks.kinds.zeromq.protocol import Numbering
from services.sinks.kinds.zeromq.settings import Mode, ZeroMqSettings

log = structlog.get_logger(__name__)


class ZeroMqSink(MessageSink):
    """Rows as messages of one socket."""

    def __init__(self, settings: ZeroMqSettings, row_type: RowType) -> None:
        self._settings = settings
        self._connection: Connection | None = None
        self._delivery: Delivery | None = None
        self._numbering: Numbering | None = None
        self._beat: Callable[[], None] = lambda: None
        super().__init__(settings, row_type)

    @property
    def promise(self) -> Promise:
        """Only a dealer's peer acknowledges what it has."""
        return Promise.AT_LEAST_ONCE if self._settings.mode is Mode.DEALER else Promise.TO_WHO_IS_THERE

    @property
    def numbering(self) -> Numbering | None:
        """The numbers of the messages since the sink was opened last."""
        return self._numbering

    def read_files(self) -> None:
        """Read the keys."""
        read_keys(self._settings)

    def open(self) -> None:
        """Listen; or connect, and wait for the peer."""
        self.close()
        connection = Connection(_line(self._settings))
        connection.beat = self._beat
        connection.open()
        self._numbering = Numbering(secrets.token_hex(8), self.content_type, self._row_type.name)
        make = Acknowledged if self._settings.mode is Mode.DEALER else Queued
        self._connection, self._delivery = connection, make(connection, self._numbering)
        self._warn_if_open_to_all()

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Send a message for every row."""
        assert self._delivery is not None, "open first"  # noqa: S101
        self._delivery.begin()
        return super().write(parts)

    def send(
        self, ids: Sequence[str], keys: Sequence[bytes | None], topics: Sequence[str], payloads: Sequence[bytes]
    ) -> Iterable[RefusedMessage]:
        """Send messages; those that are too large are refused here."""
        del keys  # ZeroMQ has none
        assert self._delivery is not None, "open first"  # noqa: S101
        self._beat()
        most = self._settings.max_message_bytes
        large = [at for at, payload in enumerate(payloads) if len(payload) > most] if most else []
        rows = zip(ids, topics, payloads, strict=True)
        messages = [ZeroMqMessage(identity, topic.encode(), payload) for identity, topic, payload in rows]
        if not large:
            return self._delivery.send(messages)
        sent = [at for at, payload in enumerate(payloads) if len(payload) <= most]
        refused = self._delivery.send([messages[at] for at in sent])
        reason = f"the row has more than the {most} bytes of max_message_bytes"
        return [
            *(RefusedMessage(sent[one.message], one.code, one.reason) for one in refused),
            *(RefusedMessage(at, ErrorCode.TOO_LARGE, reason) for at in large),
        ]

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` while waiting for a peer."""
        self._beat = beat
        if self._connection is not None:
            self._connection.beat = beat

    def tick(self) -> None:
        """Take notice of peers while there is nothing to send."""
        if self._connection is not None:
            self._connection.look()

    def close(self) -> None:
        """Hand over what is queued, for at most ``linger_seconds``; idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = self._delivery = None

    def _warn_if_open_to_all(self) -> None:
        settings = self._settings
        if settings.bind and settings.curve_key_file is None:
            open_to_all = [endpoint for endpoint in settings.endpoints if not _is_of_this_machine(endpoint)]
            if open_to_all:
                log.warning("anybody who reaches the address gets the rows; use CURVE", endpoints=", ".join(open_to_all))


def _line(settings: ZeroMqSettings) -> Line:
    """Read the keys and return how to connect. Raises `ConfigError`."""
    return Line(
        mode=settings.mode,
        endpoints=settings.endpoints,
        bind=settings.bind,
        keys=read_keys(settings),
        high_water_mark=settings.high_water_mark,
        wait_for_slow=settings.wait_for_slow,
        timeout_seconds=settings.timeout_seconds,
        linger_seconds=settings.linger_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
    )


def _is_of_this_machine(endpoint: str) -> bool:
    return endpoint.startswith("ipc:") or is_loopback(urlsplit(endpoint).hostname or "*")
