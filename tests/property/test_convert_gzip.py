"""`blobtide convert` and gzip: wherever a file breaks off, what is whole before that becomes rows."""

from __future__ import annotations

import gzip
import json
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.messages.segments import Segment
from services.cli.convert import input as convert_input
from services.parser.flows.kernel import parse
from tests.parser_oracle import rows_of
from tests.unit.parser.test_kernel import GOOD, GOOD_NSG, nsg, vnet

RECORDS = [vnet(GOOD, GOOD), nsg(GOOD_NSG), vnet(GOOD), vnet(*[GOOD] * 5), nsg(*[GOOD_NSG] * 3), vnet(GOOD)]
COMPACT = [json.dumps(record).encode() for record in RECORDS]
INDENTED = [json.dumps(record, indent=1).encode() for record in RECORDS]
FORMS = {
    "document": b'{"records":[' + b",".join(COMPACT) + b"]}",
    "indented document": b'\xef\xbb\xbf{\n "records": [\n' + b",\n".join(INDENTED) + b"\n]}\n",
    "lines": b"\n".join(COMPACT) + b"\n",
    "lines without a last newline": b"\r\n".join(COMPACT),
    "document a line": b"\n".join(b'{"records":[' + b",".join(COMPACT[n : n + 2]) + b"]}" for n in (0, 2, 4)),
    "records": b",\n".join(COMPACT),
    "block": b"," + b",".join(COMPACT),
}


def whole_before(text: bytes, end: int) -> list[tuple[int, int]]:
    """Return offset and number of tuples of the records that end at or before `end`."""
    found = []
    position = 0
    for record in INDENTED if b'\n "records"' in text else COMPACT:
        start = text.index(record, position)
        position = start + len(record)
        if position <= end:
            found.append((start, record.count(GOOD.encode()) + record.count(GOOD_NSG.encode())))
    return found


def read(data: bytes, chunk: int) -> tuple[list[tuple[int, int]], list[DeadLetter]]:
    """Return offsets and numbers of rows of all records in a file of `data`, and all dead letters."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert_input, "CHUNK_BYTES", chunk)
        file = Path(folder) / "file"
        file.write_bytes(data)
        found = list(convert_input.segments_of(str(file)))
    letters = [one for one in found if isinstance(one, DeadLetter)]
    parsed = parse([one for one in found if isinstance(one, Segment)])
    offsets = [row["record_offset"] for row in rows_of(parsed.batch)]
    return [(offset, offsets.count(offset)) for offset in dict.fromkeys(offsets)], parsed.dead_letters + letters


def packed(text: bytes, splits: Sequence[float]) -> list[bytes]:
    """Return gzip members that hold `text`, split at so many parts of it."""
    ends = [*sorted(int(part * len(text)) for part in splits), len(text)]
    return [gzip.compress(text[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def unpacked_bytes(members: list[bytes], cut: int) -> int:
    """Return how many bytes of text the first `cut` bytes of the members give."""
    total = 0
    for member in members:
        total += len(zlib.decompressobj(31).decompress(member[: max(cut, 0)]))
        cut -= len(member)
    return total


SPLITS = st.lists(st.floats(0, 1), max_size=2)
# What a file is follows from its first chunk, into which the first line must fit.
CHUNKS = st.sampled_from([800, 1 << 20])


@given(form=st.sampled_from(list(FORMS)), chunk=CHUNKS, splits=SPLITS, where=st.floats(0, 1, exclude_max=True))
def test_a_gzip_cut_at_any_byte_costs_what_is_behind_the_cut(form: str, chunk: int, splits: list[float], where: float) -> None:
    """All whole records before the cut become rows, and there is one dead letter, unless two members part there."""
    text = FORMS[form]
    members = packed(text, splits)
    data = b"".join(members)
    cut = 1 + int(where * (len(data) - 1))
    assume(cut not in {sum(map(len, members[:number])) for number in range(1, len(members))})
    end = unpacked_bytes(members, cut)
    rows, letters = read(data[:cut], chunk)
    assert rows == whole_before(text, end)
    assert len(letters) == 1
    if cut > 1:  # one byte is not yet gzip
        (letter,) = letters
        assert letter.code is ErrorCode.CUT_FILE
        assert letter.record_offset is not None
        assert letter.data in (text[letter.record_offset : end], b"")


@given(
    form=st.sampled_from(list(FORMS)), chunk=CHUNKS, splits=SPLITS, zeros=st.integers(0, 100), garbage=st.binary(max_size=50)
)
def test_what_follows_whole_members_is_told_apart(
    form: str, chunk: int, splits: list[float], zeros: int, garbage: bytes
) -> None:
    """Zero bytes behind a member are nothing; other bytes are one dead letter that holds them; all rows come in both cases."""
    text = FORMS[form]
    garbage = garbage.lstrip(b"\0\x1f")
    rows, letters = read(b"".join(packed(text, splits)) + bytes(zeros) + garbage, chunk)
    assert rows == whole_before(text, len(text))
    assert [(letter.code, letter.data) for letter in letters] == ([(ErrorCode.TRAILING_BYTES, garbage)] if garbage else [])


@given(where=st.integers(10), byte=st.integers(1, 255), chunk=CHUNKS)
def test_damage_costs_only_what_is_behind_it(where: int, byte: int, chunk: int) -> None:
    """A flipped byte never raises, is never unseen, and leaves the rows of the text that can be unpacked before it."""
    text = FORMS["document"]
    data = bytearray(gzip.compress(text))
    place = 10 + where % (len(data) - 10)
    before = len(zlib.decompressobj(31).decompress(bytes(data[: place - 1])))
    data[place] ^= byte
    rows, letters = read(bytes(data), chunk)
    expected = whole_before(text, before)
    assert rows[: len(expected)] == expected
    assert letters


@given(st.binary(max_size=300))
def test_any_bytes_that_claim_to_be_gzip_give_a_dead_letter(data: bytes) -> None:
    """What begins like gzip and is none is refused, without an exception."""
    assert read(b"\x1f\x8b" + data, 50)[1]
