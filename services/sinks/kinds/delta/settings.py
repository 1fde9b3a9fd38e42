"""Options of the delta sink."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from libs.common.settings.storage import StorageAccount
from services.sinks.frame.settings import SinkSettings

_ABFSS: Final = re.compile(
    r"abfss?://(?P<container>[a-z0-9$-]+)@(?P<account>[a-z0-9]{3,24})\.dfs\.[a-z0-9.-]+/(?P<path>[^?#]+)"
)
_AZ: Final = re.compile(r"az://(?P<container>[a-z0-9$-]+)/(?P<path>[^?#]+)")


class Compression(StrEnum):
    """How Parquet files are compressed."""

    ZSTD = "zstd"
    SNAPPY = "snappy"


class DeltaSettings(SinkSettings):
    """sinks.delta."""

    table: str | None = Field(
        default=None,
        min_length=1,
        description="Where the table is: a directory, abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH, or "
        "az://CONTAINER/PATH in the account of storage. Default: table in directory.",
    )
    storage: StorageAccount | None = Field(
        default=None, description="Storage account of the table. Default: that of the abfss URL, by identity."
    )
    directory: Path = Field(
        description="Local directory for rows that are not committed yet and for how far each source has been written."
    )
    compression: Compression = Field(default=Compression.ZSTD, description="Compression of the Parquet files.")
    commit_rows: int = Field(default=1_000_000, ge=1, description="Maximum rows of a partition's commit.")
    commit_bytes: int = Field(default=134_217_728, ge=1, description="Maximum bytes of a commit's rows, uncompressed.")
    commit_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Maximum seconds that a row waits for its commit. More seconds mean fewer, larger files.",
    )
    flush_on_close: bool = Field(
        default=True, description="Commit waiting rows when stopping; otherwise they wait for the next start."
    )
    remember_days: int = Field(
        default=400, ge=1, description="Days without rows after which a blob is forgotten; a replay then writes it again."
    )
    retention_days: int = Field(
        default=0, ge=0, le=36_500, description="Days after which sink-maintain deletes rows, by their own day. 0: never."
    )
    target_bytes: int = Field(
        default=268_435_456, ge=1_048_576, description="Size to which sink-maintain joins the files of a day."
    )
    vacuum_hours: int = Field(
        default=168,
        ge=168,
        le=876_000,
        description="Age in hours at which sink-maintain removes files that no longer belong to the table; readers of an older "
        "version need them.",
    )

    @field_validator("table")
    @classmethod
    def _place(cls, table: str | None) -> str | None:
        if table is None:
            return None
        if "://" in table and not _ABFSS.fullmatch(table) and not _AZ.fullmatch(table):
            raise ValueError(
                "give a directory, abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH or az://CONTAINER/PATH, without a query"
            )
        return table.rstrip("/")

    @model_validator(mode="after")
    def _account_is_known(self) -> Self:
        if self.place.startswith("az://") and self.storage is None:
            raise ValueError("a table at az:// needs storage, the account that it is in")
        if self.storage is not None and not self.is_remote:
            raise ValueError("storage is for a table at abfss:// or az://")
        return self

    @property
    def place(self) -> str:
        """Where the table is: a path, or a URL of Azure storage."""
        return self.table if self.table is not None else str(self.directory / "table")

    @property
    def is_remote(self) -> bool:
        """Whether the table is in Azure storage."""
        return "://" in self.place

    @property
    def account(self) -> StorageAccount | None:
        """The storage account of the table; None if it is in a directory."""
        if self.storage is not None or not self.is_remote:
            return self.storage
        match = _ABFSS.fullmatch(self.place)
        assert match is not None, "az:// has an account"  # noqa: S101
        return StorageAccount(account_name=match["account"])

    @property
    def state_directory(self) -> Path:
        """The directory of the spool and of the positions."""
        return self.directory
