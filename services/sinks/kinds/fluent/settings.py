"""The settings of the ``fluent`` sink."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from libs.common.rows.formats.encoders import RowFormat
from libs.common.settings.address import split_address
from libs.common.settings.base import listed
from libs.common.settings.login import LoginSettings
from libs.common.settings.transport import TlsSettings
from services.sinks.frame.settings import DocumentBatchSettings, SinkSettings

PORT: Final = 24_224
PLAIN: Final = "tcp"
ENCRYPTED: Final = "tls"
_FORM: Final = "tcp://host[:port], or tls://host[:port] for TLS"


class Compression(StrEnum):
    """How chunks are compressed."""

    GZIP = "gzip"
    NONE = "none"


class FluentSettings(SinkSettings, LoginSettings, TlsSettings):
    """sinks.fluent."""

    batch: DocumentBatchSettings = DocumentBatchSettings()
    hosts: tuple[str, ...] = Field(
        default=(f"{PLAIN}://127.0.0.1:{PORT}",),
        min_length=1,
        description="tcp://host[:port], or tls:// for TLS: a list, or comma-separated. If one fails, the next is used.",
    )
    connections: int = Field(
        default=1, ge=1, le=16, description="Number of connections, divided among the hosts; each sends a part of the chunks."
    )
    timeout_seconds: float = Field(default=30.0, gt=0, le=50, description="Maximum seconds to wait for an acknowledgement.")
    shared_key: SecretStr | None = Field(default=None, description="Key that this sink and the servers prove to each other.")
    shared_key_file: Path | None = Field(default=None, description="File that holds the shared key.")
    hostname: str | None = Field(
        default=None, min_length=1, description="Name of this sink in the sign-in. Default: this machine's."
    )
    tag: str = Field(
        default="blobtide.{rows}",
        min_length=1,
        description="Tag of each record. {column} inserts a column's value, made safe for one part of a tag.",
    )
    format: RowFormat = Field(default=RowFormat.JSON, description="Members of a record: those of json or ecs (flows only).")
    compression: Compression = Field(default=Compression.GZIP, description="Compression of chunks: gzip or none.")
    chunk_rows: int = Field(default=10_000, ge=1, le=1_000_000, description="Maximum number of records per chunk.")
    chunk_bytes: int = Field(
        default=2_000_000, ge=1_000, le=64_000_000, description="Maximum size of a chunk's records, uncompressed."
    )
    max_record_bytes: int = Field(
        default=1_000_000, ge=1_000, le=64_000_000, description="Maximum size of a record; larger rows are dead-lettered."
    )
    in_flight: int = Field(default=8, ge=1, le=64, description="Maximum number of unacknowledged chunks.")

    @field_validator("hosts", mode="before")
    @classmethod
    def _listed(cls, hosts: object) -> object:
        return listed(hosts)

    @field_validator("hosts")
    @classmethod
    def _addresses(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if split_address(host, (PLAIN, ENCRYPTED), _FORM).path:
                raise ValueError(f"give addresses as {_FORM}")
        return hosts

    @model_validator(mode="after")
    def _login_goes_with_key(self) -> Self:
        if self.username is not None and self.shared_key is None and self.shared_key_file is None:
            raise ValueError("username goes with shared_key (or shared_key_file): the protocol has no sign-in without a key")
        return self
