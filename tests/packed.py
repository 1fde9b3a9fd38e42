"""Compressed data with known text, in all the ways in which gzip and zstd may write it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import zstandard
from hypothesis import strategies as st

from libs.common.unpacking.member import Packing
from libs.common.unpacking.unpacker import Boundary, Halt, Unpacked, Unpacker

TEXTS = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda word, count: word * count, st.binary(min_size=1, max_size=8), st.integers(0, 3_000)),
    st.builds(bytes, st.integers(0, 150_000)),
)


@dataclass(frozen=True)
class Packed:
    """Members, each with the text that it decodes to; padding is a member without text."""

    packing: Packing
    members: tuple[tuple[bytes, bytes], ...]

    @property
    def data(self) -> bytes:
        """The compressed bytes."""
        return b"".join(data for data, _ in self.members)

    @property
    def text(self) -> bytes:
        """What they decode to."""
        return b"".join(text for _, text in self.members)

    @property
    def boundaries(self) -> list[Boundary]:
        """The places between members, in order, beginning and end included."""
        found = [Boundary()]
        for data, text in self.members:
            found.append(Boundary(found[-1].packed + len(data), found[-1].decoded + len(text)))
        return found


def gzip_member(
    text: bytes, level: int = 6, flushes: tuple[int, ...] = (), header: bytes = b"\x1f\x8b\x08\0\0\0\0\0\0\x03"
) -> bytes:
    """Return a member with a flush after so many bytes of its text."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    parts = [header]
    begin = 0
    for end in sorted(min(place, len(text)) for place in flushes):
        parts += [packer.compress(text[begin:end]), packer.flush(zlib.Z_SYNC_FLUSH)]
        begin = end
    parts += [packer.compress(text[begin:]), packer.flush(), struct.pack("<II", zlib.crc32(text), len(text) & 0xFFFFFFFF)]
    return b"".join(parts)


def gzip_header(extra: bytes | None, name: bytes, comment: bytes, *, checked: bool) -> bytes:
    """Return a header with these optional fields, and with a checksum of its own if it is `checked`."""
    flags = (2 if checked else 0) | (0 if extra is None else 4) | (8 if name else 0) | (16 if comment else 0)
    header = b"\x1f\x8b\x08" + bytes([flags]) + b"\1\2\3\4\0\xff"
    header += b"" if extra is None else struct.pack("<H", len(extra)) + extra
    header += b"".join(field + b"\0" for field in (name, comment) if field)
    return header + (struct.pack("<H", zlib.crc32(header) & 0xFFFF) if checked else b"")


_FIELDS = st.binary(min_size=0, max_size=9).map(lambda field: field.replace(b"\0", b"x"))
_GZIP_HEADERS = st.builds(gzip_header, st.none() | st.binary(max_size=9), _FIELDS, _FIELDS, checked=st.booleans())


@st.composite
def gzip_members(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Draw a member and its text."""
    text = draw(TEXTS)
    flushes = tuple(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return gzip_member(text, draw(st.sampled_from([0, 1, 6, 9])), flushes, draw(_GZIP_HEADERS)), text


def zstd_frame(
    text: bytes, level: int = 3, flushes: tuple[int, ...] = (), *, checked: bool = True, sized: bool = True
) -> bytes:
    """Return a frame with a block boundary after so many bytes of its text, with or without a checksum and the text's size."""
    packer = zstandard.ZstdCompressor(level=level, write_checksum=checked, write_content_size=sized).compressobj(size=len(text))
    parts = []
    begin = 0
    for end in sorted(min(place, len(text)) for place in flushes):
        parts += [packer.compress(text[begin:end]), packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)]
        begin = end
    return b"".join([*parts, packer.compress(text[begin:]), packer.flush()])


def skippable_frame(number: int, content: bytes) -> bytes:
    """Return a zstd frame without text."""
    return bytes([0x50 + number]) + b"\x2a\x4d\x18" + struct.pack("<I", len(content)) + content


@st.composite
def zstd_frames(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Draw a frame and its text."""
    if draw(st.integers(0, 4)) == 0:
        return skippable_frame(draw(st.integers(0, 15)), draw(st.binary(max_size=20))), b""
    text = draw(TEXTS)
    flushes = tuple(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    level = draw(st.sampled_from([-5, 1, 3, 9]))
    return zstd_frame(text, level, flushes, checked=draw(st.booleans()), sized=draw(st.booleans())), text


@st.composite
def packed(draw: st.DrawFn, most: int = 4) -> Packed:
    """Draw compressed data of some members, with padding between them."""
    packing = draw(st.sampled_from(Packing))
    members = draw(st.lists(gzip_members() if packing is Packing.GZIP else zstd_frames(), min_size=1, max_size=most))
    found = []
    for member in members:
        found.append(member)
        if padding := draw(st.integers(0, 3)):
            found.append((bytes(padding), b""))
    return Packed(packing, tuple(found))


def unpack(data: bytes, unpacker: Unpacker, cuts: list[int], most: int) -> Unpacked:
    """Decode `data`, given up to each of the `cuts` in turn, in steps of at most `most` bytes; return all as one outcome."""
    begin = unpacker.packed
    whole = Unpacked()
    for end in [*sorted(cuts), len(data)]:
        while True:
            done = unpacker.decode(data[unpacker.packed - begin : end], most)
            whole.texts += done.texts
            whole.boundaries += done.boundaries
            whole.size += done.size
            whole.halt, whole.reason = done.halt, done.reason
            if done.halt is not Halt.ENOUGH:
                break
        if not done.halt.needs_more:
            break
    return whole
