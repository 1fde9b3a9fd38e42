"""Write complete files: Parquet, NDJSON or CSV, compressed or not. The same tables always give the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from isal import isal_zlib

from libs.common.rows.formats.csv import csv_header, csv_lines
from libs.common.rows.formats.json import json_lines

_ROW_GROUP_ROWS: Final = 122_880
_TEXT_ROWS: Final = 65_536  # rows turned into text at once, which bounds memory
_GZIP_WINDOW: Final = 31  # 32 KB window, gzip header without a timestamp
_ZSTD_LEVEL: Final = 3


class FileFormat(StrEnum):
    """The format of a file."""

    PARQUET = "parquet"
    NDJSON = "ndjson"
    CSV = "csv"


class FileCompression(StrEnum):
    """How a file is compressed: inside for Parquet, as a whole for text."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    SNAPPY = "snappy"  # Parquet only


_SUFFIX: Final = {FileCompression.NONE: "", FileCompression.GZIP: ".gz", FileCompression.ZSTD: ".zst"}


@dataclass(frozen=True, slots=True)
class Encoding:
    """A file format with its options."""

    format: FileFormat
    compression: FileCompression
    columns: tuple[str, ...] | None = None  # None: all
    formula_safe: bool = False
    rename: Mapping[str, str] = field(default_factory=dict)  # old column names to new ones; in NDJSON, dots nest
    arrow_types: bool = True  # Parquet: whether readers that use Arrow get its own types back, such as dictionaries

    @property
    def extension(self) -> str:
        """The file name extension."""
        return ".parquet" if self.format is FileFormat.PARQUET else f".{self.format}{_SUFFIX[self.compression]}"

    def write(self, path: Path, tables: Iterable[pa.Table]) -> None:
        """Write `tables` (at least one, of one schema) to `path`, replacing any file there, and wait until they are on disk.

        Raises:
            OSError: if the file cannot be written.
        """
        selected = map(self._selected, tables)
        with path.open("wb") as file:
            if self.format is FileFormat.PARQUET:
                self._write_parquet(file, selected)
            else:
                self._write_text(file, selected)
            file.flush()
            os.fsync(file.fileno())

    def _selected(self, table: pa.Table) -> pa.Table:
        if self.columns is not None:
            # Rows spooled by an older version may lack a column.
            table = table.select([name for name in self.columns if name in table.column_names])
        return table.rename_columns([self.rename.get(name, name) for name in table.column_names]) if self.rename else table

    def _write_parquet(self, file: BinaryIO, tables: Iterable[pa.Table]) -> None:
        # One dictionary per row group: a column whose dictionary changes within a group falls back to plain text.
        groups = (group.unify_dictionaries() for group in _groups(tables, _ROW_GROUP_ROWS))
        first = next(groups)
        with pq.ParquetWriter(file, first.schema, compression=self.compression.value, store_schema=self.arrow_types) as writer:
            writer.write_table(first)
            for group in groups:
                writer.write_table(group)

    def _write_text(self, file: BinaryIO, tables: Iterable[pa.Table]) -> None:
        with closing(_compressor(file, self.compression)) as out:
            header = self.format is FileFormat.CSV
            for table in tables:
                if header:
                    out.write(csv_header(table.schema))
                    header = False
                for at in range(0, table.num_rows, _TEXT_ROWS):
                    out.write(self._text(table.slice(at, _TEXT_ROWS)))

    def _text(self, table: pa.Table) -> bytes:
        if self.format is FileFormat.NDJSON:
            return json_lines(table, nested=bool(self.rename))
        return csv_lines(table, header=False, formula_safe=self.formula_safe)


def _groups(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Join small tables until they have `rows` rows or more."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(t.num_rows for t in waiting) >= rows:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


class _Output(Protocol):
    def write(self, data: bytes) -> Any: ...
    def close(self) -> None: ...


def _compressor(file: BinaryIO, compression: FileCompression) -> _Output:
    if compression is FileCompression.GZIP:
        return _Compressed(file, isal_zlib.compressobj(isal_zlib.ISAL_DEFAULT_COMPRESSION, wbits=_GZIP_WINDOW))
    if compression is FileCompression.ZSTD:
        return _Compressed(file, zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj())
    return _Plain(file)


class _Plain:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def close(self) -> None:
        """Do nothing: the owner of the file closes it."""


class _Compressed:
    def __init__(self, file: BinaryIO, stream: Any) -> None:
        self._file = file
        self._stream = stream

    def write(self, data: bytes) -> None:
        self._file.write(self._stream.compress(data))

    def close(self) -> None:
        self._file.write(self._stream.flush())
