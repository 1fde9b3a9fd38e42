"""The ``mqtt`` sink: one message per row over MQTT 5 or 3.1.1 with QoS 1, at least once.

A row is written when the server has acknowledged its message. After a connection breaks or the process ends, messages may be
sent again. With MQTT 5 a message has the user property ``id``, the identity of its row, by which a consumer recognises
duplicates, and the content type of its format; MQTT 3.1.1 has neither. A message that is too large for the server, or that the
server itself refuses, is reported in the outcome.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, StringConstraints, field_validator

from libs.common.errors import Retry, ServerUnreachable
from libs.common.rows.row_type import RowType
from libs.common.security.transport import Lack, guard_credentials, is_plain, note
from libs.common.settings.address import split_address
from libs.common.settings.login import LoginSettings
from libs.common.settings.transport import TlsSettings
from services.sinks.frame.message_sink import MessageSettings, MessageSink, RefusedMessage
from services.sinks.kinds.mqtt.client import Broker, MqttClient, MqttMessage, MqttTls, MqttVersion, objection_to_topic

KIND: Final = "mqtt"
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}

ClientId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,100}$")]


class MqttSettings(MessageSettings, LoginSettings, TlsSettings):
    """sinks.mqtt."""

    url: str = Field(default="mqtt://127.0.0.1:1883", description="mqtt(s)://host[:port]; mqtts uses TLS.")
    version: MqttVersion = Field(
        default=MqttVersion.V5, description="MQTT version: 5, or 3.1.1, which cannot carry a row's identity."
    )
    client_id: ClientId = Field(default="blobtide", description="First part of the client id; a random suffix makes it unique.")
    timeout_seconds: float = Field(default=30.0, gt=0, le=50, description="Maximum seconds to wait for a response.")
    in_flight: int = Field(
        default=1_000, ge=1, le=65_535, description="Maximum number of unacknowledged messages; the server may ask for fewer."
    )
    max_packet_bytes: int = Field(
        default=0,
        ge=0,
        le=268_435_455,
        description="Maximum packet size; larger rows are dead-lettered. 0: the server's limit, which version 5 announces.",
    )
    retain: bool = Field(
        default=False, description="Have the server retain the last message of each topic for new subscribers."
    )

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        parts = split_address(url, _PORTS, "mqtt://host[:port], or mqtts:// for TLS")
        if parts.path.strip("/"):
            raise ValueError("the address of an MQTT server has no path")
        return url

    @field_validator("key")
    @classmethod
    def _no_key(cls, key: str | None) -> str | None:
        if key is not None:
            raise ValueError("MQTT messages have no key; put the columns into the topic")
        return key


class MqttSink(MessageSink):
    """Rows as messages over one connection."""

    def __init__(self, settings: MqttSettings, row_type: RowType) -> None:
        self._settings = settings
        self._client: MqttClient | None = None
        self._beat: Callable[[], None] = lambda: None
        super().__init__(settings, row_type)

    def read_files(self) -> None:
        """Read the password and check the TLS files."""
        _broker(self._settings)

    def objection_to(self, topic: str) -> str | None:
        """Return why a topic cannot be used; None if it can."""
        return objection_to_topic(topic)

    def open(self) -> None:
        """Connect and sign in."""
        self.close()
        client = MqttClient(_broker(self._settings))
        try:
            client.open()
        except Retry as error:
            raise ServerUnreachable(f"{error}; is it running, and is the sink's url correct?") from error
        self._client = client
        client.beat = self._beat

    def send(
        self, ids: Sequence[str], keys: Sequence[bytes | None], topics: Sequence[str], payloads: Sequence[bytes]
    ) -> Iterable[RefusedMessage]:
        """Publish, and wait until all messages are acknowledged."""
        del keys  # MQTT has no keys
        assert self._client is not None, "open first"  # noqa: S101
        kind = self.content_type
        rows = zip(ids, topics, payloads, strict=True)
        messages = [MqttMessage(topic, payload, (("id", identity),), kind) for identity, topic, payload in rows]
        return self._client.publish(messages)

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` while waiting for acknowledgements."""
        self._beat = beat
        if self._client is not None:
            self._client.beat = beat

    def tick(self) -> None:
        """Keep the connection open while there is nothing to send."""
        if self._client is not None:
            self._client.keep_alive()

    def close(self) -> None:
        """Disconnect; idempotent."""
        if self._client is not None:
            self._client.close()
            self._client = None


def _broker(settings: MqttSettings) -> Broker:
    """Read the password and return the connection parameters. Raises `ConfigError`."""
    parts, password = urlsplit(settings.url), settings.read_password()
    login = None if settings.username is None or password is None else (settings.username, password)
    if login is not None and is_plain(settings.url, "mqtts"):
        guard_credentials(KIND, [settings.url], settings)
    return Broker(
        host=str(parts.hostname),
        port=parts.port or _PORTS[parts.scheme],
        client_id=f"{settings.client_id}-{secrets.token_hex(6)}",
        version=settings.version,
        login=login,
        tls=_tls(settings, parts),
        timeout_seconds=settings.timeout_seconds,
        in_flight=settings.in_flight,
        max_packet_bytes=settings.max_packet_bytes,
        retain=settings.retain,
    )


def _tls(settings: MqttSettings, parts: SplitResult) -> MqttTls | None:
    if parts.scheme != "mqtts":
        return None
    settings.check_files()
    if not settings.verify:
        note(KIND, Lack.VERIFICATION)
    return MqttTls(settings.verify, settings.ca_file, settings.cert_file, settings.key_file)
