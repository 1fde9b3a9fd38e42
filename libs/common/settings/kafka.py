"""How to connect to Kafka, and the names of the topics."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from libs.common.settings.base import Group
from libs.common.settings.oauth import OAuthSettings
from libs.common.settings.transport import TransportSettings

KEY_AND_HEADERS_BYTES: Final = 16_384  # more than twice the longest blob id
_SMALLEST_MESSAGE: Final = 120_000
# Longer than we ourselves wait for a commit: Kafka must not end a transaction that is still alive.
_LONGEST_COMMIT_MS: Final = 10_000


class SecurityProtocol(StrEnum):
    """How the connection to the brokers is secured."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"


class SaslMechanism(StrEnum):
    """How the client authenticates."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"
    OAUTHBEARER = "OAUTHBEARER"


class BatchCompression(StrEnum):
    """Compression of batches."""

    NONE = "none"
    LZ4 = "lz4"
    ZSTD = "zstd"
    SNAPPY = "snappy"
    GZIP = "gzip"


class KafkaSettings(TransportSettings):
    """The Kafka cluster."""

    bootstrap_servers: str = Field(default="127.0.0.1:9092", min_length=1, description="Brokers as host:port, comma-separated.")
    security_protocol: SecurityProtocol = Field(default=SecurityProtocol.PLAINTEXT, description="Security protocol.")
    sasl_mechanism: SaslMechanism = Field(
        default=SaslMechanism.PLAIN, description="SASL mechanism; used if security_protocol begins with SASL."
    )
    sasl_username: str = Field(default="", description="SASL user name; $ConnectionString for Event Hubs.")
    sasl_password: SecretStr = Field(default=SecretStr(""), description="SASL password.")
    sasl_password_file: Path | None = Field(default=None, description="File that holds the SASL password; may be rotated.")
    oauth: OAuthSettings = OAuthSettings()
    ssl_ca_location: Path | None = Field(default=None, description="CA certificates (PEM).")
    ssl_certificate_location: Path | None = Field(default=None, description="Client certificate (PEM).")
    ssl_key_location: Path | None = Field(default=None, description="Client key (PEM).")
    group_prefix: str = Field(
        default="blobtide", pattern=r"^[A-Za-z0-9._-]+$", description="Prefix of consumer groups and transactional ids."
    )
    session_timeout_ms: int = Field(default=10_000, ge=6_000, le=60_000, description="Consumer session timeout.")
    max_poll_interval_ms: int = Field(default=300_000, ge=10_000, description="Maximum time between polls.")
    transaction_timeout_ms: int = Field(default=15_000, ge=_LONGEST_COMMIT_MS, le=60_000, description="Transaction timeout.")
    message_max_bytes: int = Field(default=8_388_608, ge=_SMALLEST_MESSAGE, description="Maximum size of a message sent.")
    compression: BatchCompression = Field(default=BatchCompression.LZ4, description="Compression of batches.")
    fetch_memory_kbytes: int = Field(default=8_192, ge=1_024, description="Limit on the data a consumer prefetches.")
    librdkafka: dict[str, str] = Field(
        default_factory=dict, description="Additional librdkafka options, passed through as given."
    )

    @property
    def value_max_bytes(self) -> int:
        """Maximum size of a message's value, leaving room for its key and headers."""
        return self.largest_message - KEY_AND_HEADERS_BYTES

    @property
    def largest_message(self) -> int:
        """The largest message that our producers may send."""
        return int(self.librdkafka.get("message.max.bytes", self.message_max_bytes))

    @property
    def signs_in(self) -> bool:
        """Whether credentials are sent to the brokers."""
        return self.security_protocol.startswith("SASL")

    @property
    def gets_tokens(self) -> bool:
        """Whether the brokers are sent tokens obtained through `oauth`."""
        return self.signs_in and self.sasl_mechanism is SaslMechanism.OAUTHBEARER and bool(self.oauth.token_url)

    @field_validator("sasl_password_file", mode="before")
    @classmethod
    def _none_if_empty(cls, file: object) -> object:
        return None if file == "" else file  # lets a variable unset what the settings file sets

    @model_validator(mode="after")
    def _credentials_are_used(self) -> Self:
        given = [
            name
            for name in ("sasl_username", "sasl_password", "sasl_password_file")
            if getattr(self, name) not in ("", SecretStr(""), None)
        ]
        if given and not self.signs_in:
            raise ValueError(
                f"{' and '.join(given)} would have no effect: security_protocol {self.security_protocol.value} does not"
                " authenticate; choose SASL_SSL, or remove them"
            )
        return self

    @model_validator(mode="after")
    def _tokens_are_had(self) -> Self:
        wants = self.signs_in and self.sasl_mechanism is SaslMechanism.OAUTHBEARER
        given = self.oauth != OAuthSettings()
        if given and not wants:
            raise ValueError(
                "oauth would have no effect: set security_protocol to SASL_SSL and sasl_mechanism to OAUTHBEARER, or remove it"
            )
        if given and not (self.oauth.token_url and self.oauth.client_id):
            raise ValueError("oauth requires token_url and client_id")
        if given and (twice := sorted(name for name in self.librdkafka if name.startswith("sasl.oauthbearer.method"))):
            raise ValueError(f"oauth and librdkafka.{twice[0]} both configure tokens: remove one")
        if wants and not given and not any("oauthbearer" in name for name in self.librdkafka):
            raise ValueError("sasl_mechanism OAUTHBEARER requires a source of tokens: set oauth")
        return self

    @model_validator(mode="after")
    def _safe(self) -> Self:
        for name in ("enable.auto.commit", "enable.auto.offset.store", "enable.idempotence", "isolation.level", "acks"):
            if name in self.librdkafka:
                raise ValueError(f"kafka.librdkafka.{name} affects delivery guarantees and cannot be changed")
        for name in ("bootstrap.servers", "metadata.broker.list", "security.protocol"):
            if name in self.librdkafka:
                raise ValueError(f"kafka.librdkafka.{name} has its own setting: use bootstrap_servers or security_protocol")
        for name, least in (("message.max.bytes", _SMALLEST_MESSAGE), ("batch.size", 1)):
            if name in self.librdkafka and not (self.librdkafka[name].isdigit() and int(self.librdkafka[name]) >= least):
                raise ValueError(f"kafka.librdkafka.{name} must be a number of bytes, {least} or more")
        return self


class TopicSettings(Group):
    """Names of the topics. Change them for all services at once."""

    blobs: str = Field(
        default="Ingestion.Blobs",
        description="Announcements from blob-monitor to ingest: blobs that are new, have grown or are closed.",
    )
    blob_state: str = Field(
        default="Ingestion.BlobState", description="What blob-monitor has seen, one record per blob; compacted."
    )
    checkpoints: str = Field(
        default="Ingestion.Checkpoints", description="How far ingest has read, one record per blob; compacted."
    )
    completions: str = Field(default="Ingestion.Completions", description="Closed blobs that ingest has read to the end.")
    quarantine: str = Field(
        default="Ingestion.Quarantine", description="Blobs the parser no longer reads, one record per blob; compacted."
    )
    raw_flow_logs: str = Field(default="Raw.FlowLogs", description="Segments of flow logs, from ingest to the parser.")
    raw_application_logs: str = Field(
        default="Raw.ApplicationLogs", description="Lines from sources with stream application_logs."
    )
    raw_proxy_logs: str = Field(default="Raw.ProxyLogs", description="Lines from sources with stream proxy_logs.")
    flows: str = Field(default="Extracted.Flows", description="Flow batches, from the parser to the sinks.")
    rollups: str = Field(default="Metrics.Flows.1m", description="Rollups of a minute, from the aggregator to the sinks.")
    rollups_1s: str = Field(default="Metrics.Flows.1s", description="Rollups of a second.")
    rollups_1h: str = Field(default="Metrics.Flows.1h", description="Rollups of an hour.")
    application: str = Field(
        default="Extracted.Application", description="Rows of application logs, from the parser to the sinks."
    )
    http: str = Field(default="Extracted.Http", description="Rows of HTTP requests, from the parser to the sinks.")
    proxy: str = Field(default="Extracted.Proxy", description="Rows of proxy logs, from the parser to the sinks.")
    spans: str = Field(
        default="Extracted.Spans", description="Spans of requests that can be followed, from the parser to the sinks."
    )
    snapshots: str = Field(default="Recorder.Snapshots", description="Answers of HTTP sources, from recorders to the sinks.")
    collection_requests: str = Field(
        default="Collection.Requests", description="Requests for Azure configuration, by message_id, for the collector."
    )
    collection_results: str = Field(
        default="Collection.Results", description="Answers to these requests, from the collector to the sinks."
    )
    collection_state: str = Field(
        default="Collection.State", description="How far the collector has come, one record per request; compacted."
    )
    recorder_state: str = Field(
        default="Recorder.State", description="How far recorders have numbered the answers, one record per source; compacted."
    )
    resources: str = Field(
        default="Meta.Resources", description="Resources of Azure as they are now, from the collector; compacted."
    )
    resource_changes: str = Field(
        default="Meta.ResourceChanges", description="What has become of resources of Azure, from the collector to the sinks."
    )
    errors: str = Field(default="Errors", description="Dead letters from all services.")
