"""Request bodies of many rows: where they are cut, and what names one.

A body never holds rows of two messages, unless that is asked for. Where it is cut follows only from the rows of its message
and the limits, so a replay, in whatever batches, makes the same bodies with the same names: a receiver that remembers names can
recognise a body that comes again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from libs.common.rows.formats.json import text_bytes
from libs.common.rows.identity import Identities
from services.sinks.frame.contract import Part


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How many rows, and how many bytes of them before compression, one body holds. A longer row has a body of its own."""

    rows: int
    bytes: int


@dataclass(frozen=True)
class Body:
    """Consecutive rows of a part, encoded.

    Attributes:
        part: the part's number in the write.
        shard: of the part.
        start: the first row, as an index in the part.
        texts: one text or binary value per row.
        identities: of all rows of the part.
    """

    part: int
    shard: int
    start: int
    texts: pa.ChunkedArray
    identities: Identities

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.texts)

    @cached_property
    def name(self) -> str:
        """The same 32 hex digits whenever these rows are encoded like this, and different ones otherwise."""
        digest = xxhash.xxh3_128()
        last = self.start + self.rows - 1
        digest.update(f"{self._id(self.start)} {self._id(last)} {self.rows} ".encode())
        for chunk in self.texts.chunks:
            digest.update(text_bytes(chunk).data)
        return digest.hexdigest()

    def halves(self) -> tuple[Body, Body]:
        """Return the first and the second half of the rows; there must be at least two."""
        middle = self.rows // 2
        return self._part_of(0, middle), self._part_of(middle, self.rows - middle)

    def _part_of(self, start: int, rows: int) -> Body:
        return Body(self.part, self.shard, self.start + start, self.texts.slice(start, rows), self.identities)

    def _id(self, row: int) -> str:
        identities = self.identities
        generation = identities.generations[int(identities.generation[row])]
        return f"{generation}-{identities.offset[row]}-{identities.index[row]}"


def bodies_of(part: Part, number: int, slices: Iterable[pa.Array], limits: BodyLimits) -> Iterator[Body]:
    """Cut the rows of part `number` of a write into bodies, at the ends of its messages and at `limits`.

    `slices` are their texts or binary values, in order, in arrays of any lengths.
    """
    identities = Identities.of(part.rows, part.row_type.position)
    start = 0
    for texts in cut(slices, part.ends, limits):
        yield Body(number, part.shard, start, texts, identities)
        start += len(texts)


def cut(slices: Iterable[pa.Array], ends: Sequence[int], limits: BodyLimits) -> Iterator[pa.ChunkedArray]:
    """Cut the texts of rows into those of bodies: at `ends`, ascending, the last of which is the number of rows, and at limits.

    `slices` are texts or binary values, in order, in arrays of any lengths: where they end makes no difference.
    """
    pending: list[pa.Array] = []
    rows = size = start = 0
    for some in slices:
        sizes = np.cumsum(pc.binary_length(some).to_numpy().astype(np.int64))
        at = 0
        while at < len(some):
            end = ends[bisect_right(ends, start + at)] - start
            most = min(len(some), end, at + limits.rows - rows)
            before = int(sizes[at - 1]) if at else 0
            fitting = int(np.searchsorted(sizes, before + limits.bytes - size, side="right"))
            stop = min(most, max(fitting, at if pending else at + 1))
            if stop > at:
                pending.append(some[at:stop])
                rows, size = rows + stop - at, size + int(sizes[stop - 1]) - before
            if stop in (end, at) or rows == limits.rows or stop < most:
                yield pa.chunked_array(pending)
                pending, rows, size = [], 0, 0
            at = stop
        start += len(some)
    if pending:
        yield pa.chunked_array(pending)
