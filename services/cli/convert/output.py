"""Rows as NDJSON, CSV, Parquet or an aligned table, batch by batch."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.formats.csv import csv_header, csv_lines
from libs.common.rows.formats.json import json_lines
from libs.common.rows.formats.line import visible_words
from libs.common.rows.types.flows import FLOW_SCHEMA
from services.cli.streams import result_file, standard_output

_GAP: Final = "  "
_TEXT_BYTES: Final = 33_554_432
"""Approximate amount of text in which rows are written at a time."""
_NUMBERS_BYTES: Final = 1_024  # of a row's text: all column names, without dictionary values
_LONGEST_ESCAPE: Final = 6
_NUMERIC: Final = ("proto", "packets", "bytes")


class OutputFormat(StrEnum):
    """Output format of rows."""

    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"
    TABLE = "table"


_SUFFIXES: Final = {
    ".ndjson": OutputFormat.NDJSON,
    ".jsonl": OutputFormat.NDJSON,
    ".json": OutputFormat.NDJSON,
    ".csv": OutputFormat.CSV,
    ".parquet": OutputFormat.PARQUET,
}


def format_of(output: Path | None) -> OutputFormat:
    """Return the format given by the suffix of the output, in upper or lower case; NDJSON if it gives none."""
    return _SUFFIXES.get(output.suffix.lower(), OutputFormat.NDJSON) if output else OutputFormat.NDJSON


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Split a batch so that the text of each part stays bounded: every row may contain a value of any length."""
    words = [column.dictionary for column in batch.columns if pa.types.is_dictionary(column.type)]
    longest = sum(pc.max(pc.binary_length(word)).as_py() or 0 for word in words)
    rows = max(1, _TEXT_BYTES // (_NUMBERS_BYTES + _LONGEST_ESCAPE * longest))
    yield from (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))


class RowWriter(Protocol):
    """Writes flow batches to one stream."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Write the rows of `batch`."""

    def close(self) -> None:
        """Complete the output; the stream stays open."""

    def abandon(self) -> None:
        """Write nothing further."""


class _TextOutput:
    def __init__(self, stream: BinaryIO, form: OutputFormat) -> None:
        self._stream = stream
        self._form = form
        if form is OutputFormat.CSV:
            stream.write(csv_header(FLOW_SCHEMA))

    def write(self, batch: pa.RecordBatch) -> None:
        for part in _parts(batch):
            table = pa.Table.from_batches([part])
            self._stream.write(csv_lines(table, header=False) if self._form is OutputFormat.CSV else json_lines(table))

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class _Parquet:
    def __init__(self, stream: BinaryIO) -> None:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(pa.PythonFile(stream, mode="w"), FLOW_SCHEMA, compression="zstd")

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()

    def abandon(self) -> None:
        self._writer.is_open = False  # otherwise its finalizer would write a footer to a closed stream


class _Aligned:
    """Makes columns as wide as the widest value so far, so that files of any size can be streamed."""

    def __init__(self, stream: BinaryIO, width: int | None) -> None:
        self._stream = stream
        self._width = width
        self._widths: dict[str, int] = {}

    def write(self, batch: pa.RecordBatch) -> None:
        for part in _parts(batch):
            self._write(part)

    def _write(self, batch: pa.RecordBatch) -> None:
        columns = _table_columns(batch)
        first = not self._widths
        for name, column in columns.items():
            widest = pc.max(pc.utf8_length(column)).as_py() or 0
            self._widths[name] = max(self._widths.get(name, len(name)), widest)
        if first:
            self._print({name: pa.array([name]) for name in columns})
        self._print(columns)

    def _print(self, columns: dict[str, pa.Array]) -> None:
        padded = [
            (pc.utf8_lpad if name in _NUMERIC else pc.utf8_rpad)(column, self._widths[name]) for name, column in columns.items()
        ]
        lines = pc.binary_join_element_wise(*padded, _GAP)
        if self._width is not None:
            lines = pc.utf8_slice_codeunits(lines, 0, self._width)
        lines = pc.utf8_rtrim_whitespace(lines)
        self._stream.write("".join(f"{line}\n" for line in lines.to_pylist()).encode())

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


def _table_columns(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    def text(name: str) -> pa.Array:
        column = batch[name]
        # Logs are untrusted, and terminals interpret control characters.
        words = visible_words(column) if pa.types.is_dictionary(column.type) else column.cast(pa.string())
        return pc.fill_null(words, "")

    def total(sent: str, received: str) -> pa.Array:
        both = pc.add(pc.fill_null(batch[sent], 0), pc.fill_null(batch[received], 0))
        known = pc.or_(batch[sent].is_valid(), batch[received].is_valid())
        return pc.if_else(known, both.cast(pa.string()), "")

    def endpoint(address: str, port: str) -> pa.Array:
        return pc.binary_join_element_wise(text(address), text(port), " ")

    return {
        "time": text("time"),
        "source": endpoint("src_ip", "src_port"),
        "destination": endpoint("dst_ip", "dst_port"),
        "proto": text("protocol"),
        "direction": text("direction"),
        "action": text("action"),
        "state": text("state"),
        "packets": total("packets_sent", "packets_received"),
        "bytes": total("bytes_sent", "bytes_received"),
        "rule": text("rule"),
        "mac": text("mac"),
    }


@contextmanager
def row_writer(form: OutputFormat, output: Path | None) -> Iterator[RowWriter]:
    """Provide a writer to standard output, or to a file that appears under its name once everything is written.

    Raises:
        BlobtideError: the file cannot be written.
    """
    terminal = shutil.get_terminal_size().columns if output is None and sys.stdout.isatty() else None
    with result_file(output) if output else standard_output() as stream:
        yield from _writing(form, stream, terminal)


def _writing(form: OutputFormat, stream: BinaryIO, width: int | None) -> Iterator[RowWriter]:
    writer: RowWriter
    match form:
        case OutputFormat.PARQUET:
            writer = _Parquet(stream)
        case OutputFormat.TABLE:
            writer = _Aligned(stream, width)
        case OutputFormat.NDJSON | OutputFormat.CSV:
            writer = _TextOutput(stream, form)
    try:
        yield writer
    except BaseException:
        writer.abandon()
        raise
    writer.close()
