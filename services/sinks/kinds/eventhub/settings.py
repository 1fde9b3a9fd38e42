"""Settings of the eventhub sink, and the settings of a Kafka client that follow from them.

What is preset is what Event Hubs requires: idle connections are cut after 240 s, requests of more than 1,046,528 bytes end the
connection, requests are given at least 20 s, and batches are not compressed.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator

from libs.common.errors import ConfigError
from libs.common.settings.kafka import BatchCompression, KafkaSettings, SaslMechanism, SecurityProtocol
from libs.common.settings.oauth import OAuthSettings
from libs.common.settings.problems import describe_problems
from libs.common.settings.secrets import read_secret
from libs.common.settings.transport import TransportSettings
from services.sinks.kinds.eventhub.connection_string import ConnectionString
from services.sinks.records.sink import Delivery, RecordSettings

USER: Final = "$ConnectionString"
_PORT: Final = 9093
_STRING: Final = "connection_string"
_MESSAGE_BYTES: Final = 1_000_000  # a request holds some more: its header, and what surrounds a message
_IDLE_MS: Final = "180000"
_PATIENCE_MS: Final = 60_000
_PRESET: Final = {
    "topic.metadata.refresh.interval.ms": _IDLE_MS,
    "metadata.max.age.ms": _IDLE_MS,
    "connections.max.idle.ms": _IDLE_MS,
    "request.timeout.ms": str(_PATIENCE_MS),
    "message.timeout.ms": str(_PATIENCE_MS),
    "socket.timeout.ms": str(_PATIENCE_MS),
}


class HubCompression(StrEnum):
    """What Event Hubs takes."""

    NONE = "none"
    GZIP = "gzip"


class EventHubSettings(RecordSettings, TransportSettings):
    """sinks.eventhub."""

    topic: str = Field(
        default="",
        description="Event hub of each row. {column} inserts a column's value, made safe for a name."
        " Default: the EntityPath of the connection string.",
    )
    connection_string: SecretStr | None = Field(
        default=None, description="Connection string of the namespace or of an event hub, with the right to send."
    )
    connection_string_file: Path | None = Field(
        default=None, description="File that holds the connection string; may be rotated."
    )
    namespace: str | None = Field(
        default=None,
        min_length=1,
        description="Host name of the namespace, such as NAME.servicebus.windows.net, perhaps with :port (9093)."
        " Default: the Endpoint of the connection string.",
    )
    oauth: OAuthSettings = OAuthSettings()
    tls: bool = Field(default=True, description="Use TLS. Only the emulator does without.")
    ssl_ca_location: Path | None = Field(default=None, description="CA certificates (PEM). Default: the system's.")
    delivery: Delivery = Field(
        default=Delivery.IDEMPOTENT,
        description="idempotent: at least once. transactional: effectively once, in the Premium and Dedicated tiers.",
    )
    positions_topic: str = Field(
        default="Sinks.Positions",
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
        description="transactional: compacted event hub of 12 partitions that holds how far each source has been written.",
    )
    compression: HubCompression = Field(
        default=HubCompression.NONE, description="Compression of batches, if the tier takes it."
    )
    librdkafka: dict[str, str] = Field(
        default_factory=dict, description="Additional librdkafka options, passed through as given."
    )

    @field_validator("connection_string_file", "ssl_ca_location", mode="before")
    @classmethod
    def _none_if_empty(cls, file: object) -> object:
        return None if file == "" else file  # lets a variable unset what the settings file sets

    @field_validator("namespace")
    @classmethod
    def _host(cls, namespace: str | None) -> str | None:
        if namespace is not None:
            parts = urlsplit(f"//{namespace}")
            if not parts.hostname or parts.path or parts.query or "@" in namespace:
                raise ValueError("give a host name, such as NAME.servicebus.windows.net")
            try:
                _ = parts.port
            except ValueError:
                raise ValueError("the port is a number, at most 65535") from None
        return namespace

    @model_validator(mode="after")
    def _signs_in_one_way(self) -> Self:
        strings = [one for one in (self.connection_string, self.connection_string_file) if one is not None]
        tokens = self.gets_tokens
        if len(strings) + tokens != 1:
            raise ValueError("give one of connection_string, connection_string_file and oauth")
        if tokens and (self.namespace is None or not self.topic):
            raise ValueError("oauth requires namespace and topic")
        return self

    @property
    def gets_tokens(self) -> bool:
        """Whether tokens sign in, and not a connection string."""
        return self.oauth != OAuthSettings() or any("oauthbearer" in name for name in self.librdkafka)

    @property
    def given_string(self) -> ConnectionString | None:
        """The connection string, if it is in the settings themselves. Raises `ConfigError`."""
        given = self.connection_string
        return None if given is None else ConnectionString.parse(given.get_secret_value(), _STRING)

    def read_string(self) -> ConnectionString | None:
        """Return the connection string, wherever it is. Raises `ConfigError`."""
        if self.gets_tokens:
            return None
        text = read_secret(_STRING, self.connection_string, self.connection_string_file)
        return ConnectionString.parse(text or "", _STRING if self.connection_string_file is None else f"{_STRING}_file")

    def cluster(self, string: ConnectionString | None, group_prefix: str) -> KafkaSettings:
        """Return how to connect by Kafka's protocol. Raises `ConfigError`."""
        namespace = urlsplit(f"//{self.namespace or (string.namespace if string is not None else '')}")
        values: dict[str, Any] = {
            "bootstrap_servers": f"{namespace.hostname}:{namespace.port or _PORT}",
            "security_protocol": SecurityProtocol.SASL_SSL if self.tls else SecurityProtocol.SASL_PLAINTEXT,
            "ssl_ca_location": self.ssl_ca_location,
            "verify": self.verify,
            "allow_plaintext_credentials": self.allow_plaintext_credentials,
            "group_prefix": group_prefix,
            "session_timeout_ms": _PATIENCE_MS // 2,
            "transaction_timeout_ms": _PATIENCE_MS,
            "message_max_bytes": _MESSAGE_BYTES,
            "compression": BatchCompression(self.compression),
            "librdkafka": {**_PRESET, **self.librdkafka},
            **self._login(str(namespace.hostname)),
        }
        try:
            return KafkaSettings.model_validate(values)
        except ValidationError as error:
            raise ConfigError(describe_problems(error, KafkaSettings, "eventhub: ")) from error

    def _login(self, host: str) -> dict[str, Any]:
        if self.gets_tokens:
            scope = self.oauth.scope or f"https://{host}/.default"
            oauth = self.oauth if self.oauth == OAuthSettings() else self.oauth.model_copy(update={"scope": scope})
            return {"sasl_mechanism": SaslMechanism.OAUTHBEARER, "oauth": oauth}
        given = self.connection_string or SecretStr("")
        return {"sasl_username": USER, "sasl_password": given, "sasl_password_file": self.connection_string_file}
