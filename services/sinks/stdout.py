"""The ``stdout`` sink: one line a flow on standard output. Promise: at least once. Stable.

A line that was printed cannot be taken back, so after a failure rows may be printed again; ``json`` and ``csv`` carry the
identity (blob, generation, record_offset, tuple_index) by which a reader can tell. A reader that goes away ends the process
quietly. Lines are made column by column.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from libs.common.errors import Retry
from libs.common.flows.csv_text import csv_lines
from libs.common.flows.json_text import json_lines, text_bytes
from libs.common.flows.names import protocol_names
from services.sinks.contract import FlowPart, Outcome
from services.sinks.settings import SinkSettings

_RETRY_SECONDS: Final = 5.0


class LineFormat(StrEnum):
    """What a line is."""

    TEXT = "text"  # aligned, for people
    JSON = "json"
    CSV = "csv"


class StdoutSettings(SinkSettings):
    """Options of the stdout sink."""

    format: LineFormat = Field(default=LineFormat.TEXT, description="text (aligned), json (one object a line) or csv.")
    formula_safe: bool = Field(default=False, description="csv: defuse text that a spreadsheet would run as a formula.")


class StdoutSink:
    """Rows as lines; see the module."""

    def __init__(self, settings: StdoutSettings, out: BinaryIO | None = None) -> None:
        self._settings = settings
        self._out = out
        self._header_due = True
        self._widths = _Widths()

    def open(self) -> None:
        """Find standard output."""
        if self._out is None:
            self._out = sys.stdout.buffer

    def write(self, parts: Sequence[FlowPart]) -> Outcome:
        """Print all rows and flush. Raises BrokenPipeError when the reader is gone, Retry if the output fails otherwise."""
        if self._out is None:
            raise RuntimeError("the sink is not open")
        try:
            for part in parts:
                self._out.write(self._lines(part.flows))
            self._out.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Retry(f"cannot write to standard output: {error.strerror}", after=_RETRY_SECONDS) from error
        return Outcome(sum(part.flows.num_rows for part in parts))

    def release(self, shards: Collection[int]) -> None:
        """Keep nothing of any shard."""

    def close(self) -> None:
        """Leave standard output open; it is not ours."""

    def _lines(self, flows: pa.Table) -> bytes:
        match self._settings.format:
            case LineFormat.JSON:
                return json_lines(flows)
            case LineFormat.CSV:
                header, self._header_due = self._header_due, False
                return csv_lines(flows, header=header, formula_safe=self._settings.formula_safe)
            case LineFormat.TEXT:
                return self._widths.text(flows)


class _Widths:
    """Makes aligned lines; columns widen as longer values come and never narrow, so that lines stay aligned over batches."""

    def __init__(self) -> None:
        self._widths: dict[str, int] = {}

    def text(self, flows: pa.Table) -> bytes:
        fields = {
            "time": pc.replace_substring(flows.column("time").cast(pa.string()), " ", "T"),
            "direction": _words(flows, "direction"),
            "action": _words(flows, "action"),
            "state": _words(flows, "state"),
            "protocol": protocol_names(flows.column("protocol")),
            "source": _endpoint(flows, "src"),
            "arrow": pa.repeat("->", flows.num_rows),
            "target": _endpoint(flows, "dst"),
            "sent": _traffic(flows, "sent", "sent"),
            "received": _traffic(flows, "received", "back"),
        }
        padded = [self._padded(name, pc.fill_null(column, "-")) for name, column in fields.items()]
        lines = pc.binary_join_element_wise(*padded, _words(flows, "rule"), " ")
        ended = pc.binary_join_element_wise(pc.utf8_rtrim_whitespace(lines), "", "\n")
        return b"".join(text_bytes(chunk).data for chunk in ended.chunks)

    def _padded(self, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        width = max(self._widths.get(name, 0), pc.max(pc.utf8_length(column)).as_py() or 0)
        self._widths[name] = width
        return pc.utf8_rpad(column, width)


def _words(flows: pa.Table, name: str) -> pa.Array:
    """Return a dictionary column as one-line text."""
    words = flows.column(name).combine_chunks()
    # Logs are untrusted, and a terminal obeys control characters.
    harmless = pc.replace_substring_regex(words.dictionary, r"\p{Cc}", "?")
    return pc.fill_null(harmless.take(words.indices), "-")


def _endpoint(flows: pa.Table, side: str) -> pa.ChunkedArray:
    address = flows.column(f"{side}_ip")
    bracketed = pc.if_else(pc.match_substring(address, ":"), pc.binary_join_element_wise("[", address, "]", ""), address)
    return pc.binary_join_element_wise(bracketed, flows.column(f"{side}_port").cast(pa.string()), ":")


def _traffic(flows: pa.Table, way: str, word: str) -> pa.ChunkedArray:
    packets, octets = (pc.fill_null(flows.column(f"{unit}_{way}").cast(pa.string()), "?") for unit in ("packets", "bytes"))
    text = pc.binary_join_element_wise(f"{word} ", packets, "p/", octets, "B", "")
    absent = pc.and_(pc.is_null(flows.column(f"packets_{way}")), pc.is_null(flows.column(f"bytes_{way}")))
    return pc.if_else(absent, pa.scalar(None, pa.string()), text)
