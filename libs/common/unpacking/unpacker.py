"""Decode a sequence of members, in steps of bounded size. Pure; no input raises an exception.

Members follow each other directly or after zero bytes, which are padding. The text is the concatenation of what the members
decode to. A *boundary* is a place between two members, in terms of both the compressed bytes and the text: decoding can begin
anew at any boundary, and gives the same text from there on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Final

from libs.common.unpacking.gzip_member import GzipMember
from libs.common.unpacking.member import After, Member, Packing, Sign, sign_of
from libs.common.unpacking.zstd_frame import ZstdFrame, new_decompressor

MOST_RATIO: Final = 300
"""Largest ratio of text to compressed bytes; logs reach 10 to 50, gzip at most 1,032, zstd more than 10,000."""
UNJUDGED_BYTES: Final = 67_108_864
"""Text that is decoded whatever its ratio."""
MOST_MEMBERS: Final = 4_096  # ended in one step

_LONGEST_MAGIC: Final = 4
_PADDING_BYTES: Final = 4_096  # looked at at once: often there are only a few


@dataclass(frozen=True, slots=True)
class Boundary:
    """A place between two members: offsets in the compressed bytes and in the text."""

    packed: int = 0
    decoded: int = 0


class Halt(StrEnum):
    """Why a step of decoding ended."""

    BETWEEN = "between"  # nothing is left, and the last member is complete
    INSIDE = "inside"  # nothing is left, and a member is incomplete
    ENOUGH = "enough"  # there may be more text
    FOREIGN = "foreign"  # what follows a complete member is not another one
    DAMAGED = "damaged"
    UNSUPPORTED = "unsupported"  # valid, but not decoded here
    BOMB = "bomb"  # the text is so much larger than the compressed bytes that it is no log

    @property
    def needs_more(self) -> bool:
        """Whether more bytes, if there are any, may give more text."""
        return self in {Halt.BETWEEN, Halt.INSIDE}

    @property
    def is_final(self) -> bool:
        """Whether no bytes can change anything."""
        return self in {Halt.DAMAGED, Halt.UNSUPPORTED, Halt.BOMB}


_HALTS: Final = {After.DAMAGED: Halt.DAMAGED, After.UNSUPPORTED: Halt.UNSUPPORTED}


@dataclass(slots=True)
class Unpacked:
    """The outcome of a step: the text in parts, the boundaries after the members that ended in it, and why it ended."""

    texts: list[bytes] = field(default_factory=list)
    boundaries: list[Boundary] = field(default_factory=list)
    halt: Halt = Halt.BETWEEN
    reason: str = ""
    size: int = 0  # of the text

    def give_up(self, reason: str) -> None:
        """Judge that the data is unsupported."""
        self.halt, self.reason = Halt.UNSUPPORTED, reason

    def then(self, more: Unpacked) -> Unpacked:
        """Return this step and the next one as one. Of the boundaries in this one, only the last is kept: there are many."""
        texts, boundaries = [b"".join(self.texts), *more.texts], self.boundaries[-1:] + more.boundaries
        return Unpacked(texts, boundaries, more.halt, more.reason, self.size + more.size)


class Unpacker:
    """Decodes members from a boundary on. `packed` and `decoded` are the offsets of the next byte to give and of its text.

    It ends with a step that stops for another reason than `ENOUGH` or the end of its data.
    """

    def __init__(self, packing: Packing, start: Boundary) -> None:
        self.packing = packing
        self.packed = start.packed
        self.decoded = start.decoded
        self._member: Member | None = None
        self._new_member: Callable[[], Member] = (
            GzipMember if packing is Packing.GZIP else partial(ZstdFrame, new_decompressor())
        )

    @property
    def held_bytes(self) -> int:
        """Approximate memory that the decoder of an incomplete member needs."""
        return self._member.held_bytes if self._member else 0

    def decode(self, data: bytes | memoryview, most: int) -> Unpacked:
        """Decode `data`, which begins at offset `packed`, to `most` bytes of text, or `LEAST_ROOM` more.

        Afterwards, `packed` says how much was used; what was not must be given again.
        """
        view = memoryview(data)
        begin = self.packed
        done = Unpacked()
        while done.size < most and len(done.boundaries) < MOST_MEMBERS:
            rest = view[self.packed - begin :]
            halt = self._continue(rest, most - done.size, done) if self._member else self._open(rest)
            if halt is not None:
                done.halt = halt
                break
        else:
            done.halt = Halt.ENOUGH
        if self._member is None and self.packed > begin and (not done.boundaries or done.boundaries[-1].packed < self.packed):
            done.boundaries.append(Boundary(self.packed, self.decoded))  # behind padding
        return done

    def _open(self, data: memoryview) -> Halt | None:
        """Skip padding and begin the next member, or return why there is none."""
        padding = _padding(data)
        self.packed += padding
        head = bytes(data[padding : padding + _LONGEST_MAGIC])
        if not head:
            return Halt.BETWEEN
        match sign_of(self.packing, head):
            case Sign.NO:
                return Halt.FOREIGN
            case Sign.UNDECIDED:
                return Halt.INSIDE
            case Sign.YES:
                self._member = self._new_member()
                return None

    def _continue(self, data: memoryview, most: int, done: Unpacked) -> Halt | None:
        """Decode a part of the current member; return why decoding cannot continue, if it cannot."""
        member = self._member
        if member is None:
            raise AssertionError("there is a member")
        part = member.decode(data, most)
        self.packed += part.used
        self.decoded += len(part.text)
        done.size += len(part.text)
        if part.text:
            done.texts.append(part.text)
        if part.after in _HALTS:
            done.reason = part.reason
            return _HALTS[part.after]
        if part.after is After.ENDED:
            self._member = None
            done.boundaries.append(Boundary(self.packed, self.decoded))
        if self.decoded > max(UNJUDGED_BYTES, MOST_RATIO * self.packed):
            return Halt.BOMB
        return Halt.INSIDE if part.after is After.OPEN and part.used == len(data) else None


def _padding(data: memoryview) -> int:
    """Return how many zero bytes `data` begins with."""
    count = 0
    while True:
        part = bytes(data[count : count + _PADDING_BYTES])
        rest = len(part.lstrip(b"\0"))
        count += len(part) - rest
        if rest or not part:
            return count
