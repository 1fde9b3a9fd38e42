"""Rows as chunks of the forward protocol: which rows are in which, and under which id.

A chunk has rows of one message of the pipeline and one tag, and at most so many rows and bytes. So its rows, its bytes and its
id depend on nothing but the message and the settings: whatever batch the message comes in again, and in whatever process, it is
the same chunk. The id is a hash of the positions of its rows, its tag and the names of its members.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack
import numpy as np
import pyarrow as pa
import xxhash
from isal import isal_zlib

from libs.common.rows.column_values import A_SECOND, integers, text_ends
from libs.common.rows.formats.message_pack import PACKED, fixed_bytes, map_columns
from libs.common.rows.identity import Identities
from libs.common.rows.row_text import Ints, RowBytes, TextColumn
from libs.common.rows.row_type import RowType
from services.sinks.frame.contract import Part
from services.sinks.frame.template import Template
from services.sinks.kinds.fluent.client import ChunkMessage
from services.sinks.kinds.fluent.settings import Compression

LEVEL_UNSAFE: Final = r"[^A-Za-z0-9_-]"
"""What values do not contribute to a tag: a dot would add a part to it."""

_ENTRY: Final = "\x92\xd7\x00"  # two elements, the first an extension of type 0 with eight bytes: EventTime
_END_OF_TIMES: Final = 2**32  # seconds since 1970
_NANOSECONDS: Final = 1_000_000_000
_GZIP: Final = 31  # 32 KB window, gzip header


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    """The most that a chunk holds, and a single record."""

    rows: int
    bytes: int
    record_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Rows of a part, in order.

    Attributes:
        tag: their tag.
        rows: the rows, as indexes in the part.
        pieces: their entries, one after the other.
        id: the same for the same rows.
    """

    tag: str
    rows: Ints
    pieces: Sequence[memoryview]
    id: str

    def message(self, compression: Compression) -> ChunkMessage:
        """Return the chunk as a message in PackedForward or CompressedPackedForward mode."""
        option: dict[str, Any] = {"size": len(self.rows), "chunk": self.id}
        if compression is Compression.GZIP:
            stream = isal_zlib.compressobj(1, wbits=_GZIP)
            data = b"".join([*map(stream.compress, self.pieces), stream.flush()])
            option["compressed"] = "gzip"
        else:
            data = b"".join(self.pieces)
        packed: bytes = msgpack.packb([self.tag, data, option])
        return ChunkMessage(self.id, packed)


@dataclass(frozen=True, slots=True, eq=False)
class _Sorted:
    """Rows in the order in which they are sent: those of a message by tag.

    Attributes:
        rows: the rows.
        places: for each of them, its index in the part.
        tags: the distinct tags.
        tag: for each row, an index into `tags`.
        ends: where a message or a tag ends.
    """

    rows: pa.Table
    places: Ints
    tags: Sequence[str]
    tag: Ints
    ends: Ints


@dataclass(slots=True)
class _Open:
    """The chunk that is being filled."""

    start: int
    pieces: list[memoryview]
    bytes: int = 0


class ChunkMaker:
    """Makes chunks of rows of one type."""

    def __init__(self, row_type: RowType, tag: Template, columns: Callable[[pa.Table], pa.Table], limits: ChunkLimits) -> None:
        self._row_type = row_type
        self._tag = tag
        self._columns = columns
        self._limits = limits

    def untimely(self, part: Part) -> Ints:
        """Return the rows whose time the protocol cannot express: before 1970, or after 2106."""
        times = part.rows.column(self._row_type.time).combine_chunks()
        seconds = integers(times) // A_SECOND[times.type.unit]
        return np.flatnonzero((seconds < 0) | (seconds >= _END_OF_TIMES))

    def chunks(self, part: Part, without: Ints, too_large: Callable[[int], None]) -> Iterator[Chunk]:
        """Yield the chunks of a part, without some of its rows; `too_large` is told the rows that exceed a record's limit."""
        chosen = self._sorted(part, without)
        if not chosen.rows.num_rows:
            return
        columns = self._columns(chosen.rows)
        names = "\0".join(columns.column_names)
        ids = _Ids.of(chosen.rows, self._row_type)
        text = RowBytes([*self._times(chosen.rows), *map_columns(columns)], chosen.rows.num_rows, PACKED)
        for start, pieces, stop in self._cut(text.slices(), chosen, too_large):
            tag = chosen.tags[int(chosen.tag[start])]
            rows = slice(start, stop)
            yield Chunk(tag, chosen.places[rows], pieces, ids.of_rows(rows, f"{tag}\0{names}"))

    def _sorted(self, part: Part, without: Ints) -> _Sorted:
        rows, places = part.rows, np.arange(part.rows.num_rows)
        message = np.searchsorted(np.array(part.ends), places, side="right")
        if len(without):
            places = np.delete(places, without)
            rows, message = rows.take(places), message[places]
        tags = self._tag.topics(rows, LEVEL_UNSAFE)
        tag = integers(tags.indices)
        if len(tags.dictionary) > 1:
            order = np.lexsort((tag, message))
            rows, places, tag, message = rows.take(order), places[order], tag[order], message[order]
        differs = (np.diff(message) != 0) | (np.diff(tag) != 0)
        ends = np.append(np.flatnonzero(differs) + 1, len(places))
        return _Sorted(rows, places, tags.dictionary.to_pylist(), tag, ends)

    def _times(self, rows: pa.Table) -> list[TextColumn]:
        """Return the beginning of each entry: its time, as seconds and nanoseconds."""
        times = rows.column(self._row_type.time).combine_chunks()
        ticks = A_SECOND[times.type.unit]
        seconds, rest = np.divmod(integers(times), ticks)
        both = np.stack((seconds, rest * (_NANOSECONDS // ticks)), axis=1).astype(">u4")
        return [_ENTRY, fixed_bytes(both.view(np.uint8).reshape(len(both), 8))]

    def _cut(
        self, slices: Iterable[pa.Array], chosen: _Sorted, too_large: Callable[[int], None]
    ) -> Iterator[tuple[int, list[memoryview], int]]:
        """Yield the first row, the entries and the end of each chunk."""
        filled = _Open(0, [])
        base, group = 0, 0
        for entries in slices:
            ends, data = _buffers(entries)
            at, rows = 0, len(entries)
            long = np.flatnonzero(np.diff(ends) > self._limits.record_bytes)
            while at < rows:
                end = int(chosen.ends[group]) - base  # of the message and tag
                stop, is_full = self._fitting(filled, ends, at, min(end, rows, *long[:1]), base)
                if stop > at:
                    filled.pieces.append(data[ends[at] : ends[stop]])
                    filled.bytes += int(ends[stop] - ends[at])
                at = stop
                is_long = len(long) > 0 and at == long[0]
                if filled.pieces and (is_full or is_long or at == end):
                    yield filled.start, filled.pieces, base + at
                    filled = _Open(base + at, [])
                if is_long:
                    too_large(int(chosen.places[base + at]))
                    long, at = long[1:], at + 1
                    filled = _Open(base + at, [])
                group += at == end
            base += rows

    def _fitting(self, filled: _Open, ends: Ints, at: int, most: int, base: int) -> tuple[int, bool]:
        """Return where to stop, at most at `most`, and whether the chunk is full then; an empty one takes at least a row."""
        by_rows = filled.start + self._limits.rows - base
        limit = int(ends[at]) + self._limits.bytes - filled.bytes
        by_bytes = int(np.searchsorted(ends, limit, side="right")) - 1
        full = max(at, min(by_rows, by_bytes))
        if full == at and not filled.pieces:
            full = at + 1
        return min(full, most), full <= most


@dataclass(frozen=True, slots=True, eq=False)
class _Ids:
    """The positions of rows, as columns to be hashed."""

    generation: np.ndarray[Any, np.dtype[np.uint64]]
    offset: Ints
    index: Ints

    @classmethod
    def of(cls, rows: pa.Table, row_type: RowType) -> _Ids:
        identities = Identities.of(rows, row_type.position)
        names = np.array([int(name[:16], 16) for name in identities.generations.to_pylist()], np.uint64)
        return cls(names[identities.generation], identities.offset, identities.index)

    def of_rows(self, rows: slice, salt: str) -> str:
        """Return an id for some rows: 128 bits, as base64."""
        digest = xxhash.xxh3_128(salt.encode())
        for column in (self.generation, self.offset, self.index):
            digest.update(np.ascontiguousarray(column[rows]).data)
        return base64.b64encode(digest.digest()).decode()


def _buffers(entries: pa.Array) -> tuple[Ints, memoryview]:
    """Return where each entry begins and ends, and the bytes of all."""
    return text_ends(entries).astype(np.int64), memoryview(entries.buffers()[2])
