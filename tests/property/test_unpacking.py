"""Compressed data: however it is divided, it decodes to the same text, from any boundary; nothing raises."""

from __future__ import annotations

from bisect import bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.unpacking import unpacker as unpacker_module
from libs.common.unpacking.member import Packing, Sign, packing_of, sign_of
from libs.common.unpacking.unpacker import Boundary, Halt, Unpacker
from tests.packed import Packed, gzip_member, packed, unpack, zstd_frame

MOST = st.sampled_from([1, 7, 1_000, 70_000, 4_000_000])


def cuts_of(data: bytes) -> st.SearchStrategy[list[int]]:
    """Draw places at which data is divided."""
    return st.lists(st.integers(0, len(data)), max_size=8)


@settings(max_examples=150, deadline=None)
@given(packed(), MOST, st.data())
def test_any_division_gives_the_same_text_and_boundaries(whole: Packed, most: int, data: st.DataObject) -> None:
    """Byte by byte, in pieces or at once, in small steps of text or large ones."""
    unpacker = Unpacker(whole.packing, Boundary())
    done = unpack(whole.data, unpacker, data.draw(cuts_of(whole.data)), max(most, len(whole.text) // 500))
    assert (done.halt, done.reason) == (Halt.BETWEEN, "")
    assert b"".join(done.texts) == whole.text
    assert (unpacker.packed, unpacker.decoded) == (len(whole.data), len(whole.text))
    assert done.size == len(whole.text)
    ends = whole.boundaries[1:]
    assert set(done.boundaries) >= {end for end, (_, text) in zip(ends, whole.members, strict=True) if text}
    assert done.boundaries[-1] == ends[-1]
    assert done.boundaries == sorted(done.boundaries, key=lambda one: one.packed)


@settings(max_examples=100, deadline=None)
@given(packed(), st.data())
def test_decoding_begins_anew_at_any_boundary(whole: Packed, data: st.DataObject) -> None:
    """What follows a boundary decodes on its own to the text that follows it."""
    start = data.draw(st.sampled_from(whole.boundaries))
    done = unpack(whole.data[start.packed :], Unpacker(whole.packing, start), [], 4_000_000)
    assert b"".join(done.texts) == whole.text[start.decoded :]
    assert done.halt is Halt.BETWEEN


@settings(max_examples=100, deadline=None)
@given(packed(), st.data())
def test_a_cut_leaves_the_text_before_it_and_is_told_from_an_end(whole: Packed, data: st.DataObject) -> None:
    """What is cut inside a member is incomplete, at a boundary or in padding it is not; all text is a prefix of the whole."""
    cut = data.draw(st.integers(0, len(whole.data)))
    unpacker = Unpacker(whole.packing, Boundary())
    done = unpack(whole.data[:cut], unpacker, data.draw(cuts_of(whole.data[:cut])), 4_000_000)
    assert whole.text.startswith(b"".join(done.texts))
    ends = [boundary.packed for boundary in whole.boundaries]
    at = bisect_right(ends, cut) - 1
    is_clean = ends[at] == cut or not whole.members[at][0].strip(b"\0")
    assert done.halt is (Halt.BETWEEN if is_clean else Halt.INSIDE)
    if is_clean:
        assert b"".join(done.texts) == whole.text[: whole.boundaries[at].decoded]


@settings(max_examples=150, deadline=None)
@given(packed(), st.integers(0, 10**9), st.integers(1, 255), MOST, st.data())
def test_damage_is_never_raised_and_gives_the_same_text_in_any_division(
    whole: Packed, place: int, byte: int, most: int, data: st.DataObject
) -> None:
    """With one byte changed anywhere, text, end and reason do not depend on how it is read."""
    damaged = bytearray(whole.data)
    damaged[place % len(damaged)] ^= byte
    once = unpack(bytes(damaged), first := Unpacker(whole.packing, Boundary()), [], 4_000_000)
    size = max(most, once.size // 500)
    again = unpack(bytes(damaged), second := Unpacker(whole.packing, Boundary()), data.draw(cuts_of(whole.data)), size)
    assert b"".join(once.texts) == b"".join(again.texts)
    assert (once.halt, once.reason, first.packed) == (again.halt, again.reason, second.packed)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(Packing), st.binary(max_size=300), st.integers(1, 100))
def test_any_bytes_decode_to_something(packing: Packing, noise: bytes, most: int) -> None:
    """Nothing is raised and every call comes to an end, whatever follows the first bytes of a member or of nothing."""
    magic = {Packing.GZIP: b"\x1f\x8b\x08\0", Packing.ZSTD: b"\x28\xb5\x2f\xfd"}[packing]
    for data in (noise, magic + noise):
        done = unpack(data, unpacker := Unpacker(packing, Boundary()), [], most)
        assert 0 <= unpacker.packed <= len(data)
        assert unpacker.decoded == done.size == sum(map(len, done.texts))


@given(packed(most=2), st.binary(min_size=1, max_size=50), st.data())
def test_what_follows_a_member_and_is_none_is_left_where_it_is(whole: Packed, noise: bytes, data: st.DataObject) -> None:
    """All text comes, and the place is told."""
    noise = noise.lstrip(b"\0")
    text = whole.data + noise
    unpacker = Unpacker(whole.packing, Boundary())
    done = unpack(text, unpacker, data.draw(cuts_of(text)), 4_000_000)
    if noise and sign_of(whole.packing, noise) is Sign.NO:
        assert done.halt is Halt.FOREIGN
        assert (unpacker.packed, b"".join(done.texts)) == (len(whole.data), whole.text)


@given(packed(most=1))
def test_members_are_recognised_by_their_first_bytes(whole: Packed) -> None:
    """At once from the whole, and not yet from less than their mark."""
    assert packing_of(whole.data) is whole.packing
    mark = 2 if whole.packing is Packing.GZIP else 4
    assert [sign_of(whole.packing, whole.data[:n]) for n in range(mark)] == [Sign.UNDECIDED] * mark


BOMBS = {Packing.GZIP: gzip_member(bytes(5_000_000)), Packing.ZSTD: zstd_frame(bytes(5_000_000))}


@pytest.mark.parametrize("packing", Packing)
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 5_000), max_size=5))
def test_a_bomb_is_given_up_soon_after_it_shows(packing: Packing, cuts: list[int]) -> None:
    """However it is divided."""
    bomb = BOMBS[packing]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpacker_module, "UNJUDGED_BYTES", 1_000_000)
        done = unpack(bomb, Unpacker(packing, Boundary()), [min(cut, len(bomb)) for cut in cuts], 500_000)
    assert done.halt is Halt.BOMB
    assert 1_000_000 < done.size < 3_000_000
