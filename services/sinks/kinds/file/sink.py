"""The ``file`` sink: complete Parquet, NDJSON or CSV files in a directory. Promise: effectively once. Stable.

Files are named by shard and sequence, ``flows-p003-00000012.parquet``. They appear complete or not at all, and never change
under their final name. The hidden directory ``.blobtide`` next to them holds the state: rows that are not in a file yet, and
how far every blob generation has been written, so that rows that come again, in whatever batches, add nothing. Rows are durable
when a write returns; files follow after a number of rows or bytes, or after some time. See
`services.sinks.local_state.shard_store` for the steps.

In layout ``hive`` files are in folders named after the time of their rows, ``day=2026-05-01/hour=04``, so that query engines
read only the folders a query needs. Rows that arrive late get a new file in their old folder. See
`services.sinks.local_state.layout` for how rows are divided.

Several workers may share a directory; each shard belongs to one of them at a time. Positions are kept per shard, so a topic
with a different number of partitions needs its own directory.
"""

from __future__ import annotations

import string
import time
from collections.abc import Callable
from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from libs.common.rows.files import Encoding, FileCompression, FileFormat
from libs.common.rows.row_type import RowType
from libs.common.rows.types.flows import FLOWS
from libs.common.settings.base import listed
from services.sinks.kinds.file.layout import DEFAULT_PERIODS, LayoutChoice, checked_periods, chosen_layout
from services.sinks.local_state.files_sink import LocalFilesSink
from services.sinks.local_state.layout import ELSEWHERE, ByTime, FileLayout, Period
from services.sinks.local_state.settings import LocalFilesSettings
from services.sinks.local_state.shard_store import FileLimits, FileOutlet

_LENGTHS: Final = (1, 11, 111, 1_111)  # equal except for their length: if names can collide, these numbers collide


class FileSettings(LocalFilesSettings):
    """Options of the file sink."""

    format: FileFormat = Field(default=FileFormat.PARQUET, description="parquet, ndjson or csv (with a header line).")
    compression: FileCompression | None = Field(
        default=None, description="none, gzip, zstd, or snappy (Parquet only). Default: zstd for Parquet, none for text."
    )
    formula_safe: bool = Field(default=False, description="CSV: escape text that a spreadsheet would run as a formula.")
    template: str | None = Field(
        default=None,
        description="File name without extension, with {shard} and {sequence}. Default: flows-p{shard:03}-{sequence:08}; for "
        "other rows, the row type replaces flows.",
    )
    layout: LayoutChoice = Field(
        default=LayoutChoice.FLAT,
        description="flat: all files in the directory itself. hive: in folders named after the time of their rows, such as "
        "day=2026-05-01/hour=04 (UTC), so that query engines can skip folders.",
    )
    partition_by: tuple[Period, ...] = Field(
        default=DEFAULT_PERIODS, description="Layout hive: divide files by day, or by day and hour."
    )
    max_partitions: int = Field(
        default=1_000,
        ge=1,
        le=5_000,
        description="Layout hive: maximum number of folders that one rotation writes to. If its rows need more, those of the "
        f"smallest folders go to {ELSEWHERE}.",
    )
    rotate_rows: int = Field(default=1_000_000, ge=1, description="Maximum number of rows in a file.")
    rotate_bytes: int = Field(default=134_217_728, ge=1, description="Maximum size of a file's rows in bytes, uncompressed.")

    @field_validator("partition_by", mode="before")
    @classmethod
    def _periods_listed(cls, periods: object) -> object:
        return listed(periods)

    @field_validator("partition_by")
    @classmethod
    def _periods(cls, periods: tuple[Period, ...]) -> tuple[Period, ...]:
        return checked_periods(periods)

    @field_validator("template")
    @classmethod
    def _names_files(cls, template: str | None) -> str | None:
        if template is None:
            return None
        try:
            fields = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
            name = template.format(shard=1, sequence=1)
        except (ValueError, KeyError, IndexError, AttributeError) as error:
            raise ValueError("only {shard} and {sequence} are allowed in a file name, for example {shard:03}") from error
        if fields != {"shard", "sequence"}:
            raise ValueError("a file name needs {shard} and {sequence}, or files would overwrite each other")
        places = [(shard, sequence) for shard in _LENGTHS for sequence in _LENGTHS]
        if len({template.format(shard=shard, sequence=sequence) for shard, sequence in places}) < len(places):
            raise ValueError("names would be ambiguous: separate {shard} and {sequence}, or fix their widths")
        if "/" in name or "\0" in name or name.startswith("."):
            raise ValueError("a file name must not contain / or begin with a dot")
        return template

    @model_validator(mode="after")
    def _snappy_is_for_parquet(self) -> Self:
        if self.compression is FileCompression.SNAPPY and self.format is not FileFormat.PARQUET:
            raise ValueError("compression: snappy is for Parquet only; for text files use none, gzip or zstd")
        return self

    def encoding(self, row_type: RowType) -> Encoding:
        """Return the format with its options. Raises `ConfigError`."""
        usual = FileCompression.ZSTD if self.format is FileFormat.PARQUET else FileCompression.NONE
        shape = self.shape(row_type)
        chosen = shape.columns if self.columns is not None else None
        return Encoding(self.format, self.compression or usual, chosen, self.formula_safe, self.rename)

    def file_layout(self, row_type: RowType) -> FileLayout:
        """Return how rows are divided into files. Raises `ConfigError`."""
        by_time = ByTime(row_type.time, self.partition_by, self.max_partitions)
        return chosen_layout(self.layout, by_time, self.shape(row_type).names)

    def limits(self) -> FileLimits:
        """Return when a file is complete."""
        return FileLimits(self.rotate_rows, self.rotate_bytes, self.rotate_seconds)


class FileSink(LocalFilesSink):
    """Rows into files; see the module."""

    def __init__(self, settings: FileSettings, row_type: RowType, clock: Callable[[], float] = time.time) -> None:
        encoding = settings.encoding(row_type)
        template = settings.template or f"{row_type.name}-p{{shard:03}}-{{sequence:08}}"
        schema = settings.rows_schema(row_type)
        outlet = FileOutlet(
            settings.directory,
            schema,
            template,
            encoding.extension,
            encoding.write,
            settings.limits(),
            settings.file_layout(row_type),
        )
        # Positions of other rows would be mistaken for those of flows.
        kind = "file" if row_type is FLOWS else f"file of {row_type.name}"
        super().__init__(settings, kind, outlet, clock)
