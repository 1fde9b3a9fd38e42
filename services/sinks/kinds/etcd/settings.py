"""Settings of the ``etcd`` sink."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from libs.common.http.client import Cluster
from libs.common.rows.formats.encoders import RowFormat
from libs.common.rows.row_type import RowType
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.http import HttpHostsSettings
from services.sinks.frame.settings import DocumentBatchSettings, SinkSettings

KIND: Final = "etcd"
_OF_FLOWS: Final = "{category}/{time}_{src_ip}_{dst_ip}_{position}"
_OF_OTHERS: Final = "{time}_{position}"
_OF_NEWEST: Final = "{position}"

Prefix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9/._:-]{1,200}$")]


class EtcdSettings(SinkSettings, HttpHostsSettings):
    """sinks.etcd."""

    batch: DocumentBatchSettings = DocumentBatchSettings()
    hosts: tuple[str, ...] = Field(
        default=("http://127.0.0.1:2379",),
        min_length=1,
        description="Client URLs of the members, used in rotation: a list, or comma-separated.",
    )
    timeout_seconds: float = Field(default=10.0, gt=0, le=50, description="Maximum seconds to wait for a response.")
    format: RowFormat = Field(
        default=RowFormat.JSON, description="Format of values: json, ecs (flows only), otel, csv, line or avro."
    )
    prefix: Prefix | None = Field(
        default=None,
        description="Beginning of all keys, followed by a slash. Default: /flowlogs; other rows: / and their type.",
    )
    key: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Rest of the key. {column} inserts a value, made safe for a key; {position}, which is required, the row's identity."
            f" Default: {_OF_FLOWS} for flows, {_OF_OTHERS} for other rows."
        ),
    )
    ttl_seconds: int = Field(
        default=86_400, ge=0, le=1_000_000_000, description="Seconds for which rows are kept, at least; 0: for ever."
    )
    transaction_rows: int = Field(
        default=128, ge=1, le=10_000, description="Maximum number of rows per transaction: the server's --max-txn-ops."
    )
    request_bytes: int = Field(
        default=1_048_576,
        ge=1_000,
        le=100_000_000,
        description="Maximum size of a transaction; less than the server's --max-request-bytes. Larger rows are dead-lettered.",
    )
    in_flight: int = Field(default=4, ge=1, le=32, description="Concurrent transactions.")

    def sign_in(self) -> dict[str, str]:
        """Return no header: signing in takes a request."""
        return {}

    def login(self) -> tuple[str, str] | None:
        """Read the password and return it with the user; None if there is none. Raises `ConfigError`."""
        password = self.read_password()
        return None if self.username is None or password is None else (self.username, password)

    def connection(self) -> Cluster:
        """Check the files and return the connection parameters. Raises `ConfigError`."""
        return self.cluster(KIND, self.in_flight)

    def key_template(self, row_type: RowType) -> str:
        """Return the template of the part of keys after the prefix."""
        if self.key is not None:
            return self.key
        if row_type.keys:
            return _OF_NEWEST
        return _OF_FLOWS if row_type is FLOWS else _OF_OTHERS

    def key_prefix(self, row_type: RowType) -> str:
        """Return the beginning of all keys, with a slash at its end."""
        prefix = self.prefix or ("/flowlogs" if row_type is FLOWS else f"/{row_type.name}")
        return f"{prefix.rstrip('/')}/"
