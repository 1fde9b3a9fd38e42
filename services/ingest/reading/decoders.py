"""Decoders of compressed blobs, kept in memory between two steps so that a member need not be decoded again from its start.

They are only a cache: one that was dropped, or that does not stand where the checkpoint does, is replaced by decoding again.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Final

from libs.common.unpacking.unpacker import Boundary, Unpacker
from services.ingest import metrics
from services.ingest.reading.cursor import Cursor, PackedPlace

_OWN_BYTES: Final = 1_000  # approximately, of a decoder without text


@dataclass(slots=True)
class Decoding:
    """A compressed blob in the process of being decoded. Belongs to one step at a time.

    Attributes:
        start: a boundary from which the unpublished text can be decoded again.
        latest: the last boundary that was passed.
        text: decoded text that was not published yet.
        head: the first bytes of the over-long line that is being skipped.
    """

    unpacker: Unpacker
    start: Boundary
    latest: Boundary
    text: bytes = b""
    head: bytes = b""

    @classmethod
    def at(cls, place: PackedPlace) -> Decoding:
        """Begin at the boundary of `place`."""
        return cls(Unpacker(place.packing, place.start), place.start, place.start)

    @property
    def offset(self) -> int:
        """Decoded offset of `text`."""
        return self.unpacker.decoded - len(self.text)

    def pass_boundaries(self, passed: Sequence[Boundary], needed: int) -> None:
        """Record boundaries, in order; decoding will have to begin anew at or before the decoded offset `needed`."""
        found = [self.start, self.latest, *passed]
        self.start = found[bisect_right(found, needed, key=attrgetter("decoded")) - 1]
        self.latest = found[-1]

    @property
    def held_bytes(self) -> int:
        """Approximate memory."""
        return self.unpacker.held_bytes + len(self.text) + _OWN_BYTES


class NextUse(StrEnum):
    """When a decoder that is kept will be used."""

    NOW = "now"  # there is more to read
    PERHAPS = "perhaps"  # when the blob grows


@dataclass(frozen=True, slots=True)
class _Kept:
    cursor: Cursor
    decoding: Decoding
    use: NextUse


class Decoders:
    """Keeps decoders by blob, at most so many bytes; beyond that, the least recently used are dropped. Thread-safe."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = dict.fromkeys(NextUse, 0)

    @property
    def is_crowded(self) -> bool:
        """Whether so much is kept for immediate use that more would soon be dropped."""
        return self._bytes[NextUse.NOW] > self._most_bytes // 2

    def take(self, blob: str, cursor: Cursor) -> Decoding | None:
        """Hand over the decoder that was kept for `blob`, if it was kept for this cursor; otherwise drop it."""
        with self._lock:
            kept = self._remove(blob)
            metrics.DECODER_BYTES.set(sum(self._bytes.values()))
        return kept.decoding if kept is not None and kept.cursor == cursor else None

    def keep(self, blob: str, cursor: Cursor, decoding: Decoding, use: NextUse = NextUse.NOW) -> None:
        """Keep a decoder for the step that will begin at `cursor`."""
        with self._lock:
            self._remove(blob)
            self._kept[blob] = _Kept(cursor, decoding, use)
            self._bytes[use] += decoding.held_bytes
            while sum(self._bytes.values()) > self._most_bytes:
                self._remove(next(iter(self._kept)))
            metrics.DECODER_BYTES.set(sum(self._bytes.values()))

    def _remove(self, blob: str) -> _Kept | None:
        kept = self._kept.pop(blob, None)
        if kept is not None:
            self._bytes[kept.use] -= kept.decoding.held_bytes
        return kept
