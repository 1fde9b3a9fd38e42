"""Decode a zstd frame (RFC 8878). Pure.

The structure of a frame, a header and blocks, is followed here, and each block is decoded by the library on its own: a block
has at most 128 KB of text, so that a few bytes cannot become gigabytes in one call. The decoder keeps a window of text whose
size the frame's header demands; frames that demand more than is reasonable are not decoded.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

import zstandard

from libs.common.unpacking.member import After, Part, is_skippable

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
    BLOCK_HEADER = auto()
    BLOCK = auto()
    LAST_BLOCK = auto()
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
        self._head = bytearray()  # the incomplete header of the frame or of a block
        self._left = 0  # bytes of the current stage that are still to come, unless it is a header
        self._window = 0
        self._has_checksum = False

    @property
    def held_bytes(self) -> int:
        """Approximate memory that it needs."""
        return self._window + _STATE_BYTES

    def decode(self, data: memoryview, most: int) -> Part:
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
            return Part(b"".join(texts), used, wrong.after, str(wrong))
        except zstandard.ZstdError as error:
            return Part(b"".join(texts), used, After.DAMAGED, str(error).rpartition(": ")[2])
        return Part(b"".join(texts), used, After.ENDED if self._stage is _Stage.END else After.OPEN)

    @property
    def _wanted(self) -> int:
        """Number of bytes that complete the current stage, as far as can be told."""
        if self._stage in {_Stage.HEADER, _Stage.BLOCK_HEADER}:
            return self._header_size() - len(self._head)
        return self._left

    def _advance(self, given: memoryview) -> bytes:
        """Decode bytes of the current stage; return their text."""
        if self._stage in {_Stage.HEADER, _Stage.BLOCK_HEADER}:
            return self._collect(given)
        text = b"" if self._stage is _Stage.SKIPPED else self._decoder.decompress(given)
        self._left -= len(given)
        self._enter()
        return text

    def _enter(self) -> None:
        """Enter the stage that follows, if the current one is complete."""
        if self._left:
            return
        if self._stage is _Stage.BLOCK:
            self._stage = _Stage.BLOCK_HEADER
        elif self._stage is _Stage.LAST_BLOCK and self._has_checksum:
            self._stage, self._left = _Stage.CHECKSUM, _CHECKSUM
        else:
            self._stage = _Stage.END

    def _collect(self, given: memoryview) -> bytes:
        """Collect the bytes of a header, and read it once it is complete."""
        self._head += given
        if self._wanted:
            return b""
        head = bytes(self._head)
        self._head.clear()
        text = b""
        if self._stage is _Stage.HEADER and is_skippable(head):
            self._stage, self._left = _Stage.SKIPPED, int.from_bytes(head[_MAGIC:], "little")
        else:
            (self._read_block_header if self._stage is _Stage.BLOCK_HEADER else self._read_header)(head)
            text = self._decoder.decompress(head)
        if self._stage is not _Stage.BLOCK_HEADER:
            self._enter()
        return text

    def _header_size(self) -> int:
        """Return how many bytes the current header has, as far as can be told: never fewer than are collected."""
        head = self._head
        if self._stage is _Stage.BLOCK_HEADER:
            return _BLOCK_HEADER
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
        self._stage = _Stage.BLOCK_HEADER

    def _read_block_header(self, head: bytes) -> None:
        value = int.from_bytes(head, "little")
        last, kind, size = value & 1, value >> 1 & 3, value >> 3
        if kind == _RESERVED or size > _MOST_BLOCK_BYTES:
            raise _Wrong(After.DAMAGED, "invalid block header")
        self._stage = _Stage.LAST_BLOCK if last else _Stage.BLOCK
        self._left = 1 if kind == _RLE else size


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
