"""Decode a zstd frame (RFC 8878). Pure.

The structure of a frame, a header and blocks, is followed here, and each block is decoded by the library on its own: a block
has at most 128 KB of text, so that a few bytes cannot become gigabytes in one call. The decoder keeps a window of text whose
size the frame's header demands; frames that demand more than is reasonable are not decoded.

The library gets headers and blocks only when they are complete, so text and damage do not depend on how a frame is divided.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

import zstandard

from libs.common.unpacking.member import After, MemberText, is_skippable

MOST_WINDOW_BYTES: Final = 8 * 1_048_576
"""Largest window that is accepted: what RFC 8878 recommends, and what levels up to 19 use."""

_MOST_BLOCK_BYTES: Final = 131_072
_STATE_BYTES: Final = 2 * _MOST_BLOCK_BYTES + 131_072  # of the decoder, besides the window
_MAGIC: Final = 4
_DESCRIPTOR: Final = _MAGIC  # index of the byte that describes the header
_SKIPPABLE_HEADER: Final = 8
_BLOCK_HEADER: Final = 3
_CHECKSUM: Final = 4
_DICTIONARY_SIZES: Final = (0, 1, 2, 4)
_CONTENT_SIZES: Final = (0, 2, 4, 8)
_SINGLE_SEGMENT, _HAS_CHECKSUM = 0x20, 0x04  # bits of the descriptor
_RLE, _RESERVED = 1, 3  # types of blocks


class _Stage(Enum):
    """What the next bytes belong to."""

    HEADER = auto()
    BLOCK = auto()  # with its header
    CHECKSUM = auto()
    SKIPPED = auto()  # the content of a skippable frame
    END = auto()


class _Wrong(Exception):
    def __init__(self, after: After, reason: str) -> None:
        super().__init__(reason)
        self.after = after


def new_decompressor() -> zstandard.ZstdDecompressor:
    """Return a decompressor for frames."""
    return zstandard.ZstdDecompressor(max_window_size=MOST_WINDOW_BYTES)


class ZstdFrame:
    """A `Member`. Several may use the same decompressor, one after the other."""

    def __init__(self, decompressor: zstandard.ZstdDecompressor) -> None:
        self._decoder = decompressor.decompressobj()
        self._stage = _Stage.HEADER
        self._unit = bytearray()  # the incomplete header, block or checksum
        self._skipped = 0  # bytes of a skippable frame that are still to come
        self._window = 0
        self._has_checksum = False

    @property
    def held_bytes(self) -> int:
        """Approximate memory that it needs."""
        return self._window + _STATE_BYTES

    def decode(self, data: memoryview, most: int) -> MemberText:
        """Decode `data` to `most` bytes, or the rest of a block more."""
        texts: list[bytes] = []
        used = size = 0
        try:
            while size < most and self._stage is not _Stage.END and used < len(data):
                given = data[used : used + self._wanted]
                used += len(given)
                texts.append(self._advance(given))
                size += len(texts[-1])
        except _Wrong as wrong:
            return MemberText(b"".join(texts), used, wrong.after, str(wrong))
        except zstandard.ZstdError as error:
            return MemberText(b"".join(texts), used, After.DAMAGED, str(error).rpartition(": ")[2])
        return MemberText(b"".join(texts), used, After.ENDED if self._stage is _Stage.END else After.OPEN)

    @property
    def _wanted(self) -> int:
        """Number of bytes that complete the current header, block or checksum, as far as can be told."""
        match self._stage:
            case _Stage.HEADER:
                return self._header_size() - len(self._unit)
            case _Stage.BLOCK:
                return self._block_size() - len(self._unit)
            case _Stage.CHECKSUM:
                return _CHECKSUM - len(self._unit)
            case _:
                return self._skipped

    def _advance(self, given: memoryview) -> bytes:
        """Return the text of what `given`, at most `_wanted` bytes, completes."""
        if self._stage is _Stage.SKIPPED:
            self._skip(self._skipped - len(given))
            return b""
        self._unit += given
        if self._wanted:
            return b""
        unit = bytes(self._unit)
        self._unit.clear()
        match self._stage:
            case _Stage.HEADER if is_skippable(unit):
                self._skip(int.from_bytes(unit[_MAGIC:], "little"))
                return b""
            case _Stage.HEADER:
                self._read_header(unit)
            case _Stage.BLOCK if unit[0] & 1:
                self._stage = _Stage.CHECKSUM if self._has_checksum else _Stage.END
            case _Stage.CHECKSUM:
                self._stage = _Stage.END
        return self._decoder.decompress(unit)

    def _skip(self, left: int) -> None:
        self._skipped = left
        self._stage = _Stage.SKIPPED if left else _Stage.END

    def _header_size(self) -> int:
        head = self._unit
        if len(head) <= _DESCRIPTOR:
            return _DESCRIPTOR + 1
        if is_skippable(bytes(head[:_MAGIC])):
            return _SKIPPABLE_HEADER
        window, dictionary, content = _field_sizes(head[_DESCRIPTOR])
        return _DESCRIPTOR + 1 + window + dictionary + content

    def _read_header(self, head: bytes) -> None:
        descriptor = head[_DESCRIPTOR]
        window, dictionary, _ = _field_sizes(descriptor)
        at = _DESCRIPTOR + 1 + window
        if number := int.from_bytes(head[at : at + dictionary], "little"):
            raise _Wrong(After.UNSUPPORTED, f"zstd data that needs dictionary {number}")
        self._window = _window_size(head[_DESCRIPTOR + 1]) if window else _content_size(head[at + dictionary :])
        if self._window > MOST_WINDOW_BYTES:
            size = f"a window of {self._window} bytes, more than {MOST_WINDOW_BYTES}"
            raise _Wrong(After.UNSUPPORTED, f"zstd data that needs {size}; compress it without --long and --ultra")
        self._has_checksum = bool(descriptor & _HAS_CHECKSUM)
        self._stage = _Stage.BLOCK

    def _block_size(self) -> int:
        """Return the size of the current block with its header; that of the header until it is complete."""
        if len(self._unit) < _BLOCK_HEADER:
            return _BLOCK_HEADER
        value = int.from_bytes(self._unit[:_BLOCK_HEADER], "little")
        kind, size = value >> 1 & 3, value >> 3
        if kind == _RESERVED or size > _MOST_BLOCK_BYTES:
            raise _Wrong(After.DAMAGED, "invalid block header")
        return _BLOCK_HEADER + (1 if kind == _RLE else size)


def _field_sizes(descriptor: int) -> tuple[int, int, int]:
    """Return the sizes of the fields for window, dictionary and content in a frame's header."""
    is_single = bool(descriptor & _SINGLE_SEGMENT)
    flag = descriptor >> 6
    return 0 if is_single else 1, _DICTIONARY_SIZES[descriptor & 3], _CONTENT_SIZES[flag] or int(is_single)


def _window_size(field: int) -> int:
    base = 1 << 10 + (field >> 3)
    return base + base // 8 * (field & 7)


def _content_size(field: bytes) -> int:
    return int.from_bytes(field, "little") + (256 if len(field) == _CONTENT_SIZES[1] else 0)
