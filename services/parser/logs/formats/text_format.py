"""What a format of plain text is. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from libs.common.rows.column_values import text_ends
from services.parser.dictionary_columns import Rows
from services.parser.logs.extract import Extract, Verdicts
from services.parser.logs.lines import Bytes, Flags, Lines
from services.parser.logs.options import Surroundings


@dataclass(frozen=True, slots=True)
class TextLines:
    """Lines of text, none of which is empty.

    Attributes:
        numbers: of the lines among all lines, ascending.
        text: the lines, without their ends, one directly after the other.
        bounds: where each line begins in `text`, and where the last one ends.
        surroundings: all lines.
    """

    numbers: Rows
    text: pa.Buffer
    bounds: Rows
    surroundings: Surroundings

    @classmethod
    def of(cls, numbers: Rows, surroundings: Surroundings) -> TextLines:
        """Copy some lines."""
        return cls(numbers, *_cut(surroundings.lines, numbers), surroundings)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def content(self) -> Bytes:
        """The text as an array."""
        return np.frombuffer(self.text, np.uint8)[: self.bounds[-1]]

    @property
    def values(self) -> pa.StringArray:
        """The lines as a column."""
        return self.between(self.bounds[:-1], self.bounds[1:])

    def between(self, starts: Rows, ends: Rows) -> pa.StringArray:
        """Return the text from `starts` to `ends` in `text`, one for each line, in order and without overlaps."""
        edges = np.empty(2 * len(starts) + 1, np.int32)
        edges[0:-1:2], edges[1::2], edges[-1] = starts, ends, self.bounds[-1]
        pieces = pa.Array.from_buffers(pa.string(), len(edges) - 1, [None, pa.py_buffer(edges), self.text])
        return pieces.take(pa.array(np.arange(0, len(pieces), 2)))

    def only(self, chosen: Flags) -> TextLines:
        """Return some of the lines."""
        return self if chosen.all() else TextLines.of(self.numbers[chosen], self.surroundings)


TextFormat = Callable[[TextLines, Verdicts], "tuple[list[Extract], TextLines]"]
"""Returns the rows of the lines that are of the format, and the lines that are not."""


def _cut(lines: Lines, numbers: Rows) -> tuple[pa.Buffer, Rows]:
    """Copy lines; return their text and bounds."""
    edges = np.empty(2 * len(numbers) + 1, np.int32)
    edges[0:-1:2], edges[1::2], edges[-1] = lines.starts[numbers], lines.ends[numbers], len(lines.text)
    stretches = pa.Array.from_buffers(pa.binary(), len(edges) - 1, [None, pa.py_buffer(edges), pa.py_buffer(lines.text)])
    kept = stretches.take(pa.array(np.arange(0, len(stretches), 2)))
    return kept.buffers()[2] or pa.py_buffer(b""), text_ends(kept).astype(np.int64)
