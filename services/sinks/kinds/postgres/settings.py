"""Options of the postgres sink."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from libs.common.security.transport import is_loopback
from libs.common.settings.base import listed
from libs.common.settings.login import LoginSettings
from libs.common.settings.transport import TlsSettings
from services.sinks.frame.settings import SinkSettings

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,39}"  # a day behind it stays within the 63 characters that a name may have
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_DIRECTORY: Final = re.compile(r"/[A-Za-z0-9._/-]*(?::[0-9]{1,5})?")
_DEFAULT_PORT: Final = "5432"
_LAST_PORT: Final = 65_535

TablePath = Annotated[str, StringConstraints(pattern=rf"^(?:{_NAME}\.)?{_NAME}$")]


class Layout(StrEnum):
    """How a table that sink-setup creates is divided."""

    PLAIN = "plain"
    DAILY = "daily"
    HYPERTABLE = "hypertable"


class Key(StrEnum):
    """What the primary key of a table consists of."""

    ID = "id"
    POSITION = "position"


class PostgresSettings(SinkSettings, LoginSettings, TlsSettings):
    """sinks.postgres."""

    users_need_password: ClassVar[bool] = False

    hosts: tuple[str, ...] = Field(
        default=("127.0.0.1:5432",),
        min_length=1,
        description="Servers of one cluster as host:port, a list or comma-separated; the one that accepts writes is used. "
        "A directory is that of a Unix socket.",
    )
    tls: bool | None = Field(
        default=None, description="Whether to use TLS. Default: true, except for servers on this machine without ca_file."
    )
    database: str = Field(default="postgres", min_length=1, max_length=63, description="Database of the table.")
    table: TablePath | None = Field(
        default=None, description="Name of the table, perhaps with its schema before a dot. Default: public and the row type."
    )
    key: Key = Field(
        default=Key.ID,
        description="Primary key of a table that sink-setup creates. id: source_id (a hash of source and generation), offset "
        "and index: 28 bytes per row. position: the four columns of the position.",
    )
    layout: Layout = Field(
        default=Layout.PLAIN,
        description="Form of a table that sink-setup creates. daily: a partition per UTC day. hypertable: one of Timescale, "
        "with a chunk per day.",
    )
    retention_days: int = Field(
        default=0, ge=0, le=36_500, description="daily: days after which a partition is dropped; hypertable: a chunk. 0: never."
    )
    address_columns: tuple[str, ...] = Field(
        default=(), description="Text columns that sink-setup creates with the type inet, such as src_ip and dst_ip."
    )
    insert_rows: int = Field(default=50_000, ge=1, le=1_000_000, description="Maximum number of rows per transaction.")
    timeout_seconds: float = Field(
        default=30.0, gt=0, le=50, description="Maximum seconds for a connection, a statement or a transaction."
    )

    @field_validator("hosts", "address_columns", mode="before")
    @classmethod
    def _listed(cls, values: object) -> object:
        return listed(values)

    @field_validator("hosts")
    @classmethod
    def _addresses(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not _DIRECTORY.fullmatch(host) and not _HOST.fullmatch(host):
                raise ValueError("give servers as host:port, or a directory; user and password have settings of their own")
            if not 0 < int(_address(host)[1]) <= _LAST_PORT:
                raise ValueError("the port must be a number from 1 to 65535")
        return hosts

    @model_validator(mode="after")
    def _retention_needs_parts(self) -> Self:
        if self.retention_days and self.layout is Layout.PLAIN:
            raise ValueError("retention_days needs layout daily or hypertable: whole days are dropped, not rows")
        return self

    @model_validator(mode="after")
    def _tls_or_not(self) -> Self:
        if self.tls is False and (self.ca_file is not None or self.cert_file is not None):
            raise ValueError("ca_file and cert_file need TLS: remove tls: false")
        return self

    @property
    def addresses(self) -> tuple[tuple[str, str], ...]:
        """Host (or directory) and port of each server."""
        return tuple(map(_address, self.hosts))

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        if self.tls is not None:
            return self.tls
        return self.ca_file is not None or not all(is_local(host) for host, _ in self.addresses)

    def table_path(self, row_type: str) -> tuple[str, str]:
        """Return schema and table."""
        schema, _, table = (self.table or row_type).rpartition(".")
        return schema or "public", table


def is_local(host: str) -> bool:
    """Return whether a host, or the directory of a socket, is on this machine."""
    return host.startswith("/") or is_loopback(host)


def _address(host: str) -> tuple[str, str]:
    if host.startswith("/"):
        directory, _, port = host.partition(":")
        return directory, port or _DEFAULT_PORT
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        return name, port.removeprefix(":") or _DEFAULT_PORT
    name, _, port = host.partition(":")
    return name, port or _DEFAULT_PORT
