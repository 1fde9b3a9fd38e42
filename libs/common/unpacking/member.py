"""One member: what gzip calls a member and zstd a frame. How it is recognised, and what decoding a part of it gives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol


class Packing(StrEnum):
    """How bytes are compressed."""

    GZIP = "gzip"
    ZSTD = "zstd"


class After(StrEnum):
    """The state of a member after some of its bytes were decoded."""

    OPEN = "open"  # it continues
    ENDED = "ended"  # it is complete, and its checksum is right
    DAMAGED = "damaged"
    UNSUPPORTED = "unsupported"  # valid, but not decoded here


@dataclass(frozen=True, slots=True)
class MemberText:
    """The text of some bytes of a member.

    Attributes:
        text: what they decode to; up to the byte at which the damage shows, if they are damaged.
        used: how many of them; fewer than were given if the member ends, there is enough text, or something is wrong.
        after: the state of the member.
        reason: what is wrong.
    """

    text: bytes
    used: int
    after: After = After.OPEN
    reason: str = ""


LEAST_ROOM: Final = 131_072
"""Bytes of text that are decoded at once if need be; at least a block of zstd, and much more than a byte of gzip can give."""


class Member(Protocol):
    """Decodes one member."""

    @property
    def held_bytes(self) -> int:
        """Approximate memory that it needs."""

    def decode(self, data: memoryview, most: int) -> MemberText:
        """Decode some of `data`, which follows what was used before, to at most `most` bytes, or `LEAST_ROOM` more.

        All text is returned for which there are bytes: the text of a member's first bytes depends on nothing but their number.
        """


_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # after a byte from 0x50 to 0x5F
_SKIPPABLE_FIRST = range(0x50, 0x60)


class Sign(StrEnum):
    """Whether bytes are the beginning of a member."""

    YES = "yes"
    NO = "no"
    UNDECIDED = "undecided"  # too few to tell


def sign_of(packing: Packing, data: bytes) -> Sign:
    """Tell by its first bytes, `data`, whether a member begins."""
    if packing is Packing.GZIP:
        return _compare(_GZIP_MAGIC, data)
    skippable = _compare(_ZSTD_SKIPPABLE, data[1:4]) if data[:1] and data[0] in _SKIPPABLE_FIRST else Sign.NO
    return _compare(_ZSTD_MAGIC, data) if skippable is Sign.NO else skippable


def is_skippable(data: bytes) -> bool:
    """Return whether a zstd frame that begins with `data`, at least four bytes, has no text."""
    return not data.startswith(_ZSTD_MAGIC)


def packing_of(data: bytes) -> Packing | None:
    """Return how data that begins with `data` is compressed; None if it is not, or there are too few bytes to tell."""
    return next((packing for packing in Packing if sign_of(packing, data) is Sign.YES), None)


def may_be_packed(data: bytes) -> bool:
    """Return whether `data` may be the beginning of compressed data, although there are too few bytes to tell."""
    return any(sign_of(packing, data) is Sign.UNDECIDED for packing in Packing)


def _compare(magic: bytes, data: bytes) -> Sign:
    if data.startswith(magic):
        return Sign.YES
    return Sign.UNDECIDED if magic.startswith(data) else Sign.NO
