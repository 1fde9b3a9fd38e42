"""Write lines in requests of bounded size, and find those that the server refuses.

Where the server does not say which lines it refuses, they are found by halving: what is written once more replaces itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from isal import isal_zlib

from libs.common.errors import Retry
from libs.common.http.client import HttpClient, Request
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.formats.json import text_bytes
from services.sinks.kinds.influxdb.faults import AllWritten, NamedLines, SomeLines, TooLarge, read_answer

MOST_REQUESTS: Final = 1_000
"""How many requests one body may become: finding a refused line takes about two for each halving."""

_HEADERS: Final = {"Content-Type": "text/plain; charset=utf-8", "Content-Encoding": "gzip"}
_GZIP: Final = 31  # 32 KB window, gzip header
_TOO_LARGE: Final = "influxdb, or a proxy in front of it, does not accept a request of this size"

_Rows = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line that the server refuses."""

    line: int
    code: ErrorCode
    reason: str


@dataclass(slots=True)
class LinesWritten:
    """The result of writing lines; those not listed are written.

    `refused` lists those that are at fault themselves. For those in `unclear`, it is not known who is: if others were accepted,
    these are.
    """

    written: int = 0
    refused: list[RefusedLine] = field(default_factory=list)
    unclear: list[RefusedLine] = field(default_factory=list)

    def add(self, other: LinesWritten) -> None:
        """Add the result of other lines."""
        self.written += other.written
        self.refused += other.refused
        self.unclear += other.unclear


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The maximum size of a request: lines, and bytes before compression."""

    lines: int
    bytes: int


class LineWriter:
    """Writes lines to one target. Thread-safe."""

    def __init__(self, client: HttpClient, path: str, limits: BodyLimits) -> None:
        self._client = client
        self._path = path
        self._limits = limits

    def bodies(self, lines: pa.ChunkedArray) -> Iterator[tuple[int, pa.ChunkedArray]]:
        """Divide lines into bodies; each comes with the number of its first line."""
        ends = np.cumsum(pc.binary_length(lines).to_numpy().astype(np.int64))
        start, sent = 0, 0
        while start < len(ends):
            most = int(np.searchsorted(ends, sent + self._limits.bytes, side="right"))
            stop = max(start + 1, min(most, start + self._limits.lines))
            yield start, lines.slice(start, stop - start)
            start, sent = stop, int(ends[stop - 1])

    def write(self, body: pa.ChunkedArray) -> LinesWritten:
        """Write the lines of a body; lines in the result count from 0.

        Raises:
            Retry: if the server cannot accept all of them now, or refuses so many that it cannot be found which.
            ConfigError: if it does not let us write.
        """
        return _Search(self, body).result()

    def send(self, lines: pa.ChunkedArray) -> AllWritten | TooLarge | NamedLines | SomeLines:
        """Write lines in one request. Raises as `write` does."""
        stream = isal_zlib.compressobj(1, wbits=_GZIP)
        data = b"".join([*(stream.compress(text_bytes(chunk).data) for chunk in lines.chunks), stream.flush()])
        return read_answer(self._client.send(Request("POST", self._path, data, _HEADERS)), len(lines))


class _Search:
    """The writing of one body, in as few requests as its lines allow."""

    def __init__(self, writer: LineWriter, body: pa.ChunkedArray) -> None:
        self._writer = writer
        self._body = body
        self._found = LinesWritten()
        self._requests = 0

    def result(self) -> LinesWritten:
        """Write everything and return what became of it."""
        left = [np.arange(len(self._body))]
        while left:
            lines = left.pop()
            left += reversed(self._write(lines))
        self._found.written = len(self._body) - len(self._found.refused) - len(self._found.unclear)
        return self._found

    def _write(self, lines: _Rows) -> list[_Rows]:
        """Write some consecutive lines, and return those that have to be tried in smaller numbers."""
        answer = self._writer.send(self._body.slice(int(lines[0]), len(lines)))
        self._requests += 1
        match answer:
            case AllWritten():
                return []
            case TooLarge():
                return self._halves(lines) or self._give_up(lines, ErrorCode.TOO_LARGE, _TOO_LARGE, is_own_fault=False)
            case NamedLines(named):
                for line, reason in named.items():
                    self._give_up(lines[line : line + 1], ErrorCode.REFUSED, reason, is_own_fault=False)
                return []
            case SomeLines(reason, dropped, is_own_fault):
                if dropped < len(lines) and (halves := self._halves(lines)):
                    self._check_patience(reason)
                    return halves
                return self._give_up(lines, ErrorCode.REFUSED, reason, is_own_fault=is_own_fault)

    def _halves(self, lines: _Rows) -> list[_Rows]:
        middle = len(lines) // 2
        return [lines[:middle], lines[middle:]] if middle else []

    def _give_up(self, lines: _Rows, code: ErrorCode, reason: str, *, is_own_fault: bool) -> list[_Rows]:
        target = self._found.refused if is_own_fault else self._found.unclear
        target += [RefusedLine(line, code, reason) for line in lines.tolist()]
        return []

    def _check_patience(self, reason: str) -> None:
        if self._requests >= MOST_REQUESTS:
            raise Retry(f"too many points are refused to find each of them: {reason}", after=5.0, kind="partial_write")
