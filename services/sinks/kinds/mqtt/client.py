"""Publish many messages over MQTT 5 or 3.1.1 with QoS 1, and wait until the server has acknowledged each one.

The library is paho-mqtt: pure Python, both versions of MQTT, maintained by Eclipse, and it can be driven from a single thread
like sinks. aiomqtt is built on it and needs an event loop; gmqtt has an event loop of its own. This module adds what paho
lacks: paho ignores receive maximum and maximum packet size, and searches its own message queue at each acknowledgement.

A message sent on a connection that broke may have arrived: after `Retry`, all messages are sent again. Nothing is kept from a
lost connection: each one begins with a clean session.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, cast

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from libs.common.errors import ConfigError, Retry
from libs.common.messages.dead_letters import ErrorCode
from services.sinks.frame.message_sink import RefusedMessage
from services.sinks.kinds.mqtt.answers import MqttFault, failure, fault_of, refusal

_KEEPALIVE: Final = 60  # seconds
_LOOP_SECONDS: Final = 0.5
_FAILED: Final = 0x80  # reason codes from here on
_LARGEST_PACKET: Final = 268_435_455
_LARGEST_TEXT: Final = 65_535
_MOST_IN_FLIGHT: Final = 65_535
# Not allowed in topic names: wildcards, and characters for which servers close the connection.
_UNFIT: Final = re.compile("[+#\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")


class MqttVersion(StrEnum):
    """Versions of MQTT."""

    V5 = "5"
    V3_1_1 = "3.1.1"


@dataclass(frozen=True, slots=True)
class MqttTls:
    """How the server is verified, and our own certificate."""

    verify: bool = True
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a server is and how to connect to it."""

    host: str
    port: int
    client_id: str
    version: MqttVersion = MqttVersion.V5
    login: tuple[str, str] | None = None  # user and password: secret
    tls: MqttTls | None = None
    timeout_seconds: float = 30.0
    in_flight: int = 1_000  # messages; the server may allow fewer
    max_packet_bytes: int = 0  # 0: the server's own limit, which MQTT 3.1.1 servers do not state
    retain: bool = False

    def __str__(self) -> str:
        return f"mqtt server {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class MqttMessage:
    """A message; its properties may carry an identity for consumers that remove duplicates."""

    topic: str
    payload: bytes
    properties: tuple[tuple[str, str], ...] = ()  # MQTT 5
    content_type: str = ""  # MQTT 5


def objection_to_topic(topic: str) -> str | None:
    """Return why a topic name cannot be used; None if it can."""
    if not topic:
        return "a topic has a name"
    if _UNFIT.search(topic):
        return "a topic has no wildcard (+, #) and no control character"
    return "a topic has at most 65,535 bytes" if len(topic.encode()) > _LARGEST_TEXT else None


class MqttClient:
    """A connection that is re-established when needed. All calls come from one thread."""

    def __init__(self, broker: Broker, clock: Callable[[], float] = time.monotonic) -> None:
        self._broker = broker
        self._clock = clock
        self._connection: _Connection | None = None
        self.beat: Callable[[], None] = lambda: None

    def open(self) -> None:
        """Connect and sign in, unless already connected.

        Raises:
            Retry: if the server does not respond or is too busy now.
            ConfigError: if it does not let us in.
        """
        if self._connection is None or not self._connection.alive():
            self.close()
            self._connection = _Connection.made(self._broker, self._clock)

    def publish(self, messages: Sequence[MqttMessage]) -> list[RefusedMessage]:
        """Send all messages and return those permanently refused; the server has all others.

        Raises:
            Retry: if some may not have arrived; send all of them again.
            ConfigError: if the server will not accept them until something is reconfigured.
        """
        self.open()
        assert self._connection is not None  # noqa: S101
        try:
            return self._connection.publish(messages, self.beat)
        except (Retry, ConfigError):
            self._connection.drop()
            self._connection = None
            raise

    def keep_alive(self) -> None:
        """Exchange keep-alive packets with the server; call every few seconds. Never raises for faults from outside."""
        if self._connection is not None and not self._connection.alive():
            self._connection.drop()
            self._connection = None

    def close(self) -> None:
        """Disconnect; idempotent."""
        if self._connection is not None:
            self._connection.end()
            self._connection = None


class _Connection:
    """A single connection."""

    def __init__(self, broker: Broker, clock: Callable[[], float]) -> None:
        self._broker = broker
        self._clock = clock
        self._client = _paho(broker)
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish
        self._client.on_disconnect = self._on_disconnect
        self._welcome: tuple[ReasonCode, Properties] | None = None
        self._closed = False
        self._goodbye: ReasonCode | None = None
        self._acknowledged: list[tuple[int, ReasonCode]] = []
        self._window = broker.in_flight
        self._largest = broker.max_packet_bytes or _LARGEST_PACKET

    @classmethod
    def made(cls, broker: Broker, clock: Callable[[], float]) -> _Connection:
        """Connect and wait for the server's response. Raises `Retry`, `ConfigError`."""
        connection = cls(broker, clock)
        try:
            connection._connect()
        except BaseException:
            connection.drop()
            raise
        return connection

    def _connect(self) -> None:
        broker = self._broker
        try:
            self._client.connect(broker.host, broker.port, _KEEPALIVE)
        except ssl.SSLCertVerificationError as error:
            raise ConfigError(f"{broker}: its certificate is not trusted: {error.verify_message}; set ca_file") from error
        except (OSError, ValueError) as error:  # ValueError: an invalid host name
            raise Retry(f"{broker} does not answer: {type(error).__name__}") from error
        deadline = self._clock() + broker.timeout_seconds
        while True:
            status = self._client.loop(_LOOP_SECONDS)
            if self._welcome is not None:  # a server that refuses closes the connection after its response
                break
            if status == MQTTErrorCode.MQTT_ERR_PROTOCOL:  # how the library reports that 3.1.1 is refused
                raise failure(str(broker), 0x84, "Unsupported protocol version")
            self._check(status)
            if self._clock() > deadline:
                raise Retry(f"{broker} does not answer in time")
        self._take_terms(*self._welcome)

    def _take_terms(self, answer: ReasonCode, terms: Properties) -> None:
        if answer.value >= _FAILED:
            raise failure(str(self._broker), answer.value, answer.getName())
        if getattr(terms, "MaximumQoS", 1) < 1:
            raise failure(str(self._broker), 0x9B, "QoS not supported")
        if self._broker.retain and not getattr(terms, "RetainAvailable", 1):
            raise failure(str(self._broker), 0x9A, "Retain not supported")
        self._window = min(self._window, getattr(terms, "ReceiveMaximum", _MOST_IN_FLIGHT))
        self._largest = min(self._largest, getattr(terms, "MaximumPacketSize", _LARGEST_PACKET))

    def publish(self, messages: Sequence[MqttMessage], beat: Callable[[], None]) -> list[RefusedMessage]:
        """Send messages, as many at a time as the server allows, until each is acknowledged."""
        refused: list[RefusedMessage] = []
        waiting: dict[int, int] = {}  # MQTT packet id -> number of the message
        left = self._sendable(messages, refused)
        deadline = self._clock() + self._broker.timeout_seconds
        more = True
        while more or waiting:
            more = more and self._send_some(left, waiting)
            if waiting:
                self._check(self._client.loop(_LOOP_SECONDS))
            beat()
            if self._take_acknowledgements(waiting, refused):
                deadline = self._clock() + self._broker.timeout_seconds
            elif waiting and self._clock() > deadline:
                raise Retry(f"{self._broker} does not acknowledge in time")
        return sorted(refused, key=lambda one: one.message)

    def _sendable(
        self, messages: Sequence[MqttMessage], refused: list[RefusedMessage]
    ) -> Iterator[tuple[int, MqttMessage, Properties | None]]:
        """Yield the messages that MQTT can carry, and record the others as refused."""
        for number, message in enumerate(messages):
            properties = _properties(message) if self._broker.version is MqttVersion.V5 else None
            topic = message.topic.encode()
            if objection := objection_to_topic(message.topic):
                refused.append(RefusedMessage(number, ErrorCode.REFUSED, objection))
            elif (size := _size(topic, message.payload, properties)) > self._largest:
                reason = f"a packet of {size} bytes is more than the {self._largest} that the server takes"
                refused.append(RefusedMessage(number, ErrorCode.TOO_LARGE, reason))
            else:
                yield number, message, properties

    def _send_some(self, left: Iterator[tuple[int, MqttMessage, Properties | None]], waiting: dict[int, int]) -> bool:
        """Send while the server accepts more; return whether more messages may be left."""
        while len(waiting) < self._window:
            if (found := next(left, None)) is None:
                return False
            number, message, properties = found
            info = self._client.publish(message.topic, message.payload, 1, self._broker.retain, properties)
            self._check(info.rc)
            waiting[info.mid] = number
        return True

    def _take_acknowledgements(self, waiting: dict[int, int], refused: list[RefusedMessage]) -> bool:
        """Settle acknowledged messages; return whether there were any."""
        settled, self._acknowledged = self._acknowledged, []
        for message_id, answer in settled:
            number = waiting.pop(message_id)
            if answer.value < _FAILED:
                continue
            if fault_of(answer.value) is not MqttFault.MESSAGE:
                raise failure(str(self._broker), answer.value, answer.getName())
            refused.append(RefusedMessage(number, ErrorCode.REFUSED, refusal(answer.value)))
        return bool(settled)

    def _check(self, status: MQTTErrorCode) -> None:
        """Raise if the connection is gone, with the server's reason if it gave one."""
        if self._goodbye is not None and self._goodbye.value >= _FAILED:
            raise failure(str(self._broker), self._goodbye.value, self._goodbye.getName())
        if status != MQTTErrorCode.MQTT_ERR_SUCCESS or self._closed:
            raise Retry(f"{self._broker} has closed the connection")

    def alive(self) -> bool:
        """Exchange due packets without waiting, and return whether the connection is still there."""
        return not self._closed and self._client.loop(0.0) == MQTTErrorCode.MQTT_ERR_SUCCESS and not self._closed

    def end(self) -> None:
        """Disconnect and close."""
        self._client.disconnect()
        self.drop()

    def drop(self) -> None:
        """Close without a DISCONNECT packet."""
        if (socket := self._client.socket()) is not None:
            socket.close()

    def _on_connect(self, *arguments: Any) -> None:
        *_, answer, terms = arguments
        self._welcome = answer, terms

    def _on_publish(self, *arguments: Any) -> None:
        *_, message_id, answer, _terms = arguments
        self._acknowledged.append((message_id, answer))

    def _on_disconnect(self, *arguments: Any) -> None:
        *_, flags, answer, _terms = arguments
        self._closed = True
        if flags.is_disconnect_packet_from_server:
            self._goodbye = answer


def _paho(broker: Broker) -> Client:
    v5 = broker.version is MqttVersion.V5
    client = Client(
        CallbackAPIVersion.VERSION2,
        broker.client_id,
        clean_session=None if v5 else True,
        protocol=MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
    )
    client.max_inflight_messages_set(0)  # we limit the window ourselves
    client.connect_timeout = min(5.0, broker.timeout_seconds)
    if broker.login is not None:
        client.username_pw_set(*broker.login)
    if broker.tls is not None:
        client.tls_set_context(_context(broker.tls))
    return client


def _context(tls: MqttTls) -> ssl.SSLContext:
    """Return the TLS context. Raises `ConfigError` for invalid files."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"mqtt: a file with certificates or a key cannot be read: {error}") from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _properties(message: MqttMessage) -> Properties:
    """Return the properties of a message. The library's own way of making them costs five times as much as the message."""
    parts = [b"\x26" + _text(name) + _text(value) for name, value in message.properties]
    if message.content_type:
        parts.append(b"\x03" + _text(message.content_type))
    data = b"".join(parts)
    return cast("Properties", _PackedProperties(_length(len(data)) + data))


@dataclass(frozen=True, slots=True)
class _PackedProperties:
    """Properties in the form in which they are sent, which is all that the library asks for."""

    data: bytes

    def pack(self) -> bytes:
        """Return the packed properties."""
        return self.data


def _size(topic: bytes, payload: bytes, properties: Properties | None) -> int:
    """Return the size of a message's packet, in bytes."""
    rest = 2 + len(topic) + 2 + len(payload) + (0 if properties is None else len(cast("_PackedProperties", properties).data))
    return 1 + len(_length(rest)) + rest


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def _length(number: int) -> bytes:
    """Return a length as MQTT encodes it: seven bits per byte, lowest first."""
    data = bytearray()
    while number >> 7:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)
