"""The ``file`` sink: complete Parquet, NDJSON or CSV files in a directory. Promise: effectively once. Stable.

Files are named by shard and sequence, ``flows-p003-00000012.parquet``, and appear whole or not at all; nothing is ever changed
under a final name. State is hidden in ``.blobtide`` beside them: rows that are in no file yet, and how far every blob
generation has been written, so that rows which come again, in whatever batches, add nothing. Rows are durable when a write
returns, files follow by rows, bytes or time. See `services.sinks.local_state.shard_store` for the steps.

Several workers may share a directory; each shard belongs to one of them at a time. The positions are kept per shard: a topic
with another number of partitions needs a directory of its own.
"""

from __future__ import annotations

import sqlite3
import string
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from libs.common.rows.files import Encoding, FileCompression, FileFormat
from libs.common.rows.row_type import RowType
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.contract import Outcome, Part, Sink
from services.sinks.frame.kind import Promise
from services.sinks.frame.settings import SinkSettings
from services.sinks.local_state.positions import Positions
from services.sinks.local_state.shard_store import FileLimits, FileOutlet
from services.sinks.local_state.shards import Shards, ShardsSpec

_LENGTHS: Final = (1, 11, 111, 1_111)  # alike but for their lengths: if names can be mixed up, then those of these numbers


class FileSettings(SinkSettings):
    """Options of the file sink."""

    directory: Path = Field(description="Where the files go; made if missing. The hidden .blobtide in it is the sink's memory.")
    format: FileFormat = Field(default=FileFormat.PARQUET, description="parquet, ndjson or csv (with a header line).")
    compression: FileCompression | None = Field(
        default=None, description="none, gzip, zstd, or snappy (Parquet only). Default: zstd for Parquet, none for text."
    )
    formula_safe: bool = Field(default=False, description="CSV: defuse text that a spreadsheet would run as a formula.")
    template: str | None = Field(
        default=None,
        description="Name of a file without its extension; {shard} and {sequence}. Default: flows-p{shard:03}-{sequence:08}, "
        "with the row type for flows.",
    )
    rotate_rows: int = Field(default=1_000_000, ge=1, description="A file is complete at so many rows.")
    rotate_bytes: int = Field(
        default=134_217_728, ge=1, description="A file is complete at so many bytes of waiting rows, uncompressed."
    )
    rotate_seconds: float = Field(default=60.0, gt=0, description="A file is complete so long after its first row came.")
    flush_on_close: bool = Field(default=True, description="Complete the files at a stop; else rows wait for the next start.")
    remember_days: int = Field(
        default=400, ge=1, description="A blob that nothing came from for so long is forgotten: replayed, it is written again."
    )

    @field_validator("template")
    @classmethod
    def _names_files(cls, template: str | None) -> str | None:
        if template is None:
            return None
        try:
            fields = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
            name = template.format(shard=1, sequence=1)
        except (ValueError, KeyError, IndexError, AttributeError) as error:
            raise ValueError("only {shard} and {sequence} can stand in a file name, for example {shard:03}") from error
        if fields != {"shard", "sequence"}:
            raise ValueError("a file name needs {shard} and {sequence}, or files would overwrite each other")
        places = [(shard, sequence) for shard in _LENGTHS for sequence in _LENGTHS]
        if len({template.format(shard=shard, sequence=sequence) for shard, sequence in places}) < len(places):
            raise ValueError("names would be mixed up: put something between {shard} and {sequence}, or fix their widths")
        if "/" in name or "\0" in name or name.startswith("."):
            raise ValueError("a file name has no / and does not begin with a dot")
        return template

    @model_validator(mode="after")
    def _snappy_is_for_parquet(self) -> Self:
        if self.compression is FileCompression.SNAPPY and self.format is not FileFormat.PARQUET:
            raise ValueError("compression: snappy is for Parquet; text files take none, gzip or zstd")
        return self

    @property
    def state_directory(self) -> Path:
        """The files' own directory: state is hidden in it."""
        return self.directory

    def encoding(self, row_type: RowType) -> Encoding:
        """Return the format with its options. Raises `ConfigError`."""
        usual = FileCompression.ZSTD if self.format is FileFormat.PARQUET else FileCompression.NONE
        shape = self.shape(row_type)
        chosen = shape.columns if self.columns is not None else None
        return Encoding(self.format, self.compression or usual, chosen, self.formula_safe, self.rename)

    def limits(self) -> FileLimits:
        """Return when a file is complete."""
        return FileLimits(self.rotate_rows, self.rotate_bytes, self.rotate_seconds)


class FileSink(Sink):
    """Rows into files; see the module."""

    def __init__(self, settings: FileSettings, row_type: RowType, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._row_type = row_type
        self._clock = clock
        encoding = settings.encoding(row_type)
        template = settings.template or f"{row_type.name}-p{{shard:03}}-{{sequence:08}}"
        schema = settings.rows_schema(row_type)
        outlet = FileOutlet(settings.directory, schema, template, encoding.extension, encoding.write, settings.limits())
        # Positions of other rows would be taken for those of flows.
        kind = "file" if row_type is FLOWS else f"file of {row_type.name}"
        self._shards = Shards(ShardsSpec(kind, outlet, self._prepare, settings.flush_on_close), clock)

    @property
    def promise(self) -> Promise:
        """Positions and rows are committed together."""
        return Promise.EFFECTIVELY_ONCE

    def open(self) -> None:
        """Recover what a crash left. Raises ConfigError if the directory cannot be written to."""
        self._shards.open()

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Make all rows durable, each once. Raises Retry if the disk fails or another process has a shard."""
        written = known = 0
        for part in parts:
            with self._shards.writing(part.shard) as store:
                positions = Positions(store.database, self._clock)
                fresh = positions.fresh(part.rows, self._row_type.position)
                store.append(fresh.rows)
                positions.advance(fresh)
            written, known = written + fresh.rows.num_rows, known + fresh.known
        return Outcome(written, known)

    def tick(self) -> None:
        """Complete files by time."""
        self._shards.tick()

    def release(self, shards: Collection[int]) -> None:
        """Let others have `shards`."""
        self._shards.release(shards)

    def close(self) -> None:
        """Let go of everything."""
        self._shards.close()

    def _prepare(self, database: sqlite3.Connection) -> None:
        positions = Positions(database, self._clock)
        positions.create()
        positions.prune(self._settings.remember_days)
