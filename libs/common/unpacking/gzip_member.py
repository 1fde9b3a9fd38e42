"""Decode a gzip member with zlib-ng. Pure.

The text of so many bytes of a member, and where damage shows in it, are the same however the bytes are divided between calls.
So no call holds back text that it has bytes for: one whose text is too long is undone, and repeated with fewer bytes. And
after an error, which discards what the failing call decoded, that call is undone and repeated byte by byte. To be undone, a
call works on a copy of the state.
"""

from __future__ import annotations

from typing import Final, Protocol, cast

from zlib_ng import zlib_ng

from libs.common.unpacking.member import LEAST_ROOM, After, MemberText

_WITH_HEADER: Final = 31  # a window of 32 KB, with header and checksum
_STATE_BYTES: Final = 49_152  # of the decoder: the window, tables, and the object
# Whatever follows a member in the same call is copied, and the state before each call; so calls begin small and grow.
_FIRST_SLICE: Final = 4_096
_LONGEST_SLICE: Final = 65_536
_SHORTEST_SLICE: Final = 32  # its text always fits: a byte has at most 1,032 bytes of text
_MARGIN: Final = (
    1.25  # by which a slice's ratio of text to bytes may be larger than that of the one before without being undone
)
_ERROR: Final = cast("type[Exception]", zlib_ng.error)  # its stub says that it is an instance


class _Inflater(Protocol):
    """`zlib_ng.decompressobj`, whose stub lacks `copy`."""

    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes | memoryview, max_length: int = 0) -> bytes: ...

    def copy(self) -> _Inflater: ...


def _new() -> _Inflater:
    return cast("_Inflater", zlib_ng.decompressobj(_WITH_HEADER))


class GzipMember:
    """A `Member`."""

    held_bytes = _STATE_BYTES

    def __init__(self) -> None:
        self._inflater: _Inflater | None = None  # nothing was decoded yet
        self._slice = _FIRST_SLICE
        self._ratio = 1.0

    def decode(self, data: memoryview, most: int) -> MemberText:
        """Decode a slice of `data`, whose text is at most `LEAST_ROOM` or, if that is more, `most` bytes long."""
        room = max(most, LEAST_ROOM)
        size = max(_SHORTEST_SLICE, min(self._slice, int(room / self._ratio / _MARGIN)))
        while True:
            given = data[:size]
            inflater = self._inflater.copy() if self._inflater else _new()
            try:
                text = inflater.decompress(given, room + 1)
            except _ERROR as error:
                return _up_to_damage(self._inflater or _new(), given, error)
            if len(text) <= room:
                break
            size //= 2
        self._inflater = inflater
        used = len(given) - len(inflater.unused_data)
        self._slice = min(2 * self._slice, _LONGEST_SLICE)
        self._ratio = max(1.0, len(text) / max(used, 1))
        return MemberText(text, used, After.ENDED if inflater.eof else After.OPEN)


def _up_to_damage(inflater: _Inflater, data: memoryview, error: Exception) -> MemberText:
    texts = []
    used = 0
    try:
        while used < len(data):
            texts.append(inflater.decompress(data[used : used + 1]))
            used += 1
    except _ERROR as repeated:
        error = repeated
    return MemberText(b"".join(texts), used, After.DAMAGED, str(error).rpartition(": ")[2])
