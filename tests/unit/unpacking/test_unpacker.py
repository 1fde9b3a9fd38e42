"""Decoding compressed data: what is refused, what bounds a step, and what bounds its cost."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard

from libs.common.unpacking.member import LEAST_ROOM, Packing
from libs.common.unpacking.unpacker import MOST_MEMBERS, UNJUDGED_BYTES, Boundary, Halt, Unpacker
from libs.common.unpacking.zstd_frame import MOST_WINDOW_BYTES
from tests.packed import gzip_header, gzip_member, unpack, zstd_frame

BLOCK = 131_072
MAGIC = b"\x28\xb5\x2f\xfd"


def windowed(log: int) -> bytes:
    """Return a zstd frame that needs a window of ``1 << log`` bytes."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=log)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(b"line\n" * 1_000) + packer.flush()


def test_a_window_that_needs_much_memory_is_refused_and_a_common_one_is_not() -> None:
    """That of level 19 is decoded; of a larger one the header is enough."""
    assert unpack(windowed(23), Unpacker(Packing.ZSTD, Boundary()), [], 10_000).halt is Halt.BETWEEN
    done = unpack(windowed(24)[:6], Unpacker(Packing.ZSTD, Boundary()), [], 10_000)
    assert (done.halt, done.size) == (Halt.UNSUPPORTED, 0)
    assert f"16777216 bytes, more than {MOST_WINDOW_BYTES}" in done.reason


def test_a_frame_in_one_segment_needs_a_window_of_its_size() -> None:
    """The size may be in 1, 2, 4 or 8 bytes."""
    for flag, size, form in ((0, 200, "<B"), (1, 256 + 300, "<H"), (2, 70_000, "<I"), (3, 80_000, "<Q")):
        header = MAGIC + bytes([flag << 6 | 0x20]) + struct.pack(form, size - (256 if flag == 1 else 0))
        run = struct.pack("<I", 1 | 1 << 1 | size << 3)[:3] + b"x"  # one byte, so often
        assert b"".join(unpack(header + run, Unpacker(Packing.ZSTD, Boundary()), [7], 10**6).texts) == b"x" * size
    done = unpack(MAGIC + b"\xa0" + struct.pack("<I", 1 << 30), Unpacker(Packing.ZSTD, Boundary()), [], 10_000)
    assert done.halt is Halt.UNSUPPORTED


def test_a_frame_that_needs_a_dictionary_is_refused() -> None:
    """Its number is named."""
    words = zstandard.train_dictionary(1_000, [b"some %d words that are %d alike" % (n, n * n) for n in range(500)])
    data = zstandard.ZstdCompressor(dict_data=words).compress(b"some 7 words that are 49 alike")
    done = unpack(data, Unpacker(Packing.ZSTD, Boundary()), [], 10_000)
    assert (done.halt, done.reason) == (Halt.UNSUPPORTED, f"zstd data that needs dictionary {words.dict_id()}")


@pytest.mark.parametrize("block", [struct.pack("<I", 3 << 1)[:3], struct.pack("<I", 1 << 1 | BLOCK + 1 << 3)[:3]])
def test_a_block_that_cannot_be_is_damage(block: bytes) -> None:
    """A type that is reserved, or one byte so often that it would fill the memory."""
    done = unpack(MAGIC + b"\0\x58" + block + b"x" * 10, Unpacker(Packing.ZSTD, Boundary()), [], 10_000)
    assert (done.halt, done.reason) == (Halt.DAMAGED, "invalid block header")


@pytest.mark.parametrize(("packing", "pack"), [(Packing.GZIP, gzip_member), (Packing.ZSTD, zstd_frame)])
def test_a_step_gives_no_more_than_wanted(packing: Packing, pack: Callable[[bytes], bytes]) -> None:
    """Or little more; the rest comes in the next steps, also where the ratio rises suddenly."""
    text = bytes(range(256)) * 300 + random.Random(1).randbytes(200_000) + bytes(20_000_000)
    data = pack(text)
    unpacker = Unpacker(packing, Boundary())
    sizes = []
    while unpacker.decoded < len(text):
        done = unpacker.decode(data[unpacker.packed :], 300_000)
        sizes.append(done.size)
    assert max(sizes) <= 300_000 + LEAST_ROOM
    assert min(sizes[:-1]) >= 300_000
    assert sum(sizes) == len(text)


def test_a_step_ends_after_so_many_members() -> None:
    """However little they contain, so that each step is short."""
    member = gzip_member(b"")
    unpacker = Unpacker(Packing.GZIP, Boundary())
    done = unpacker.decode(member * (MOST_MEMBERS + 1), 1_000)
    assert (done.halt, len(done.boundaries)) == (Halt.ENOUGH, MOST_MEMBERS)
    assert unpacker.packed == MOST_MEMBERS * len(member)


def test_many_small_members_and_much_padding_copy_little() -> None:
    """The bytes that follow a member are not copied as a whole each time."""
    data = (gzip_member(b"line\n") + b"\0") * 2_000 + bytes(2_000_000)
    unpacker = Unpacker(Packing.GZIP, Boundary())
    tracemalloc.start()
    done = unpacker.decode(data, 1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (done.size, done.boundaries[-1]) == (10_000, Boundary(len(data), 10_000))
    assert peak < 1_000_000


def test_text_in_a_ratio_of_logs_is_no_bomb_and_little_text_never_is() -> None:
    """A ratio of 100 is none however long it lasts; up to the limit any ratio is allowed."""
    text = (b"2026-05-01 12:00:00 INFO all is well\n" * 3 + bytes(range(32, 96)) + b"\n") * 200
    packer_input = [gzip_member(text), gzip_member(bytes(10_000_000))]
    for member in packer_input:
        assert unpack(member, Unpacker(Packing.GZIP, Boundary()), [], 4_000_000).halt is Halt.BETWEEN
    start = Boundary(1_000_000, UNJUDGED_BYTES)  # what was decoded before counts too
    assert unpack(packer_input[0] * 50, Unpacker(Packing.GZIP, start), [], 4_000_000).halt is Halt.BETWEEN


def test_a_header_with_all_optional_fields_is_read_byte_by_byte() -> None:
    """A library that was tried refuses such a member if it ends a call inside the header."""
    header = gzip_header(b"extra", b"name", b"comment", checked=True)
    data = gzip_member(b"line\n", header=header)
    done = unpack(data, Unpacker(Packing.GZIP, Boundary()), list(range(len(data))), 1_000)
    assert (done.halt, b"".join(done.texts)) == (Halt.BETWEEN, b"line\n")


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (2, "unknown compression method"),
        (3, "unknown header flags set"),
        (-8, "incorrect data check"),
        (-4, "incorrect length check"),
    ],
)
def test_damage_is_named(place: int, reason: str) -> None:
    """With what the library says of it, and the text before it."""
    data = bytearray(gzip_member(b"line\n"))
    data[place] ^= 0xE0
    done = unpack(bytes(data), Unpacker(Packing.GZIP, Boundary()), [], 1_000)
    assert (done.halt, done.reason) == (Halt.DAMAGED, reason)
    assert done.texts == ([b"line\n"] if place < 0 else [])
