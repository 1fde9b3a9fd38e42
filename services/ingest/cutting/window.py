"""The result of examining some bytes of a blob: ranges that become segments, unreadable ranges, and how to continue.

Values only. `lines.advance` and `whole_records.advance` turn a `Window` into `Progress`; both are pure, so that every rule of
cutting can be tested without a server. All positions are offsets in the blob.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from libs.common.messages.dead_letters import ErrorCode
from libs.common.messages.segments import SegmentFormat


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """Sizes in bytes."""

    segment: int
    line: int
    record: int  # longest record that is examined as a whole
    compare: int = 4_194_304  # read at once when comparing old content


@dataclass(frozen=True, slots=True)
class Window:
    """Bytes of one blob, starting at the cursor."""

    data: bytes
    start: int  # offset of data[0]: the cursor
    blob_end: int  # size of the blob
    closing: bool  # the blob will not be written any more
    widest: bool  # more bytes cannot be requested at once
    skip_from: int | None = None  # start of the over-long line or record that contains the cursor
    block_ends: Sequence[int] = ()  # ascending; empty without a block list

    @property
    def end(self) -> int:
        """Offset after the last byte of `data`."""
        return self.start + len(self.data)

    @property
    def at_end(self) -> bool:
        """Whether the bytes reach the end of the blob."""
        return self.end == self.blob_end


@dataclass(frozen=True, slots=True)
class Cut:
    """One segment: the bytes of ``[start, end)``, or one of `count` pieces of the record there."""

    start: int
    end: int
    data: bytes
    format: SegmentFormat
    records: int
    piece: int = 0
    count: int = 0  # 0: not a piece
    first_tuple: int = 0


@dataclass(frozen=True, slots=True)
class Bad:
    """A range that cannot become a segment. `data` contains all its bytes, or only the first ones if it is by reference."""

    start: int
    end: int
    data: bytes
    code: ErrorCode
    reason: str


class Outlook(StrEnum):
    """How to continue."""

    DONE = "done"  # nothing more can be obtained from this version of the blob
    MORE = "more"  # continue from `next_offset`
    WIDEN = "widen"  # read more bytes from the same place at once


@dataclass(frozen=True, slots=True)
class Progress:
    """The outcome. Cuts, bad ranges and `next_offset` advance without gaps."""

    next_offset: int
    outlook: Outlook
    cuts: tuple[Cut, ...] = ()
    bad: tuple[Bad, ...] = ()
    skip_from: int | None = None
    # Range of the first record or line within the window's data; for the identity of the generation.
    first: tuple[int, int] | None = None


REFERENCE_BYTES = 256  # of an unreadable range given by reference: enough to recognise it


def by_reference(start: int, end: int, data: bytes, code: ErrorCode, what: str) -> Bad:
    """Describe the range ``[start, end)`` by position, length and the first bytes of `data`."""
    return Bad(
        start,
        end,
        data[:REFERENCE_BYTES],
        code,
        f"{what}: {end - start} bytes at offset {start}, of which the first are given here",
    )


def with_bytes(start: int, data: bytes, limit: int, reason: str) -> tuple[Bad, ...]:
    """Include all of `data`, in parts of at most `limit` bytes."""
    return tuple(
        Bad(start + i, start + i + len(part), part, ErrorCode.BAD_JSON, reason)
        for i in range(0, len(data), limit)
        for part in (data[i : i + limit],)
    )
