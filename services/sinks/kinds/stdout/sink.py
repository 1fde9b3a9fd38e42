"""The ``stdout`` sink: one line per row on standard output. Promise: at least once. Stable.

A printed line cannot be taken back, so rows may be printed again after a failure; ``json`` and ``csv`` include the identity of
the row, by which a reader can recognise duplicates. If the reader closes the pipe, the process ends quietly. Lines are built
column by column, for a bounded number of rows at a time.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from io import FileIO, RawIOBase
from typing import Final

import pyarrow as pa
from pydantic import Field

from libs.common.errors import Retry
from libs.common.rows.formats.csv import csv_lines
from libs.common.rows.formats.encoders import lines_for, time_first
from libs.common.rows.formats.json import json_lines
from libs.common.rows.row_type import RowType
from libs.common.security.visible import visible
from services.sinks.frame.contract import Outcome, Part, Sink
from services.sinks.frame.settings import SinkSettings

_ROWS_AT_ONCE: Final = 16_384
"""Bounds the memory that a write needs in addition to its batch; their text is about 10 MB."""
_RETRY_SECONDS: Final = 5.0
_WAIT_SECONDS: Final = 1.0


class LineFormat(StrEnum):
    """The format of a line."""

    TEXT = "text"  # aligned, for people
    JSON = "json"
    CSV = "csv"


class StdoutSettings(SinkSettings):
    """Options of the stdout sink."""

    format: LineFormat = Field(default=LineFormat.TEXT, description="text (for people), json (one object per line) or csv.")
    formula_safe: bool = Field(default=False, description="csv: escape text that a spreadsheet would run as a formula.")


class StdoutSink(Sink):
    """Rows as lines; see the module."""

    def __init__(self, settings: StdoutSettings, row_type: RowType, out: RawIOBase | None = None) -> None:
        self._settings = settings
        self._out = out
        shape = settings.shape(row_type)
        self._shape = time_first(shape, row_type)
        self._text_of = lines_for(row_type, shape)
        self._unsent = b""  # the rest of a text interrupted by a failure; sent first, so that lines stay whole
        self._header_due = True
        self._beat: Callable[[], None] = lambda: None

    def open(self) -> None:
        """Open standard output."""
        if self._out is None:
            sys.stdout.flush()
            self._out = FileIO(sys.stdout.fileno(), "wb", closefd=False)

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Print all rows. Raises BrokenPipeError if the reader is gone, and Retry if the output fails in another way."""
        try:
            self._send(self._unsent)
            for part in parts:
                for start in range(0, part.rows.num_rows, _ROWS_AT_ONCE):
                    self._send(self._lines(part.rows.slice(start, _ROWS_AT_ONCE)))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Retry(f"cannot write to standard output: {error.strerror}", after=_RETRY_SECONDS) from error
        return Outcome(sum(part.rows.num_rows for part in parts))

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` while a non-blocking output is full."""
        self._beat = beat

    def _send(self, text: bytes) -> None:
        if self._out is None:
            raise RuntimeError("the sink is not open")
        sent = 0
        try:
            while sent < len(text):
                taken = self._out.write(memoryview(text)[sent:])
                if taken is None:  # the output is non-blocking, and the reader is slow
                    select.select([], [self._out], [], _WAIT_SECONDS)
                    self._beat()
                else:
                    sent += taken
        finally:
            if sent:
                self._unsent = text[sent:]
                self._header_due = False

    def _lines(self, rows: pa.Table) -> bytes:
        text = self._formatted(rows)
        # Terminals obey control characters, which logs may contain; programs get the text unchanged.
        return visible(text.decode()).encode() if self._out is not None and self._out.isatty() else text

    def _formatted(self, rows: pa.Table) -> bytes:
        match self._settings.format:
            case LineFormat.JSON:
                return json_lines(self._shape.apply(rows), nested=bool(self._settings.rename))
            case LineFormat.CSV:
                shaped = self._shape.apply(rows)
                return csv_lines(shaped, header=self._header_due, formula_safe=self._settings.formula_safe)
            case LineFormat.TEXT:
                return self._text_of(rows)
