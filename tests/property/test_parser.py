"""The parser's kernel against a plain second parser, on generated, weird and broken input."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from libs.common.messages.segments import Segment, SegmentFormat
from services.parser.flows import kernel
from services.parser.flows.gathering import gather
from services.parser.flows.kernel import Parsed, parse
from services.parser.letters import no_source
from tests.parser_oracle import COLUMNS, COUNTERS, NSG, VNET, document, expected, rows_of

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
BLOB, GENERATION = "acme.prod/logs/y=2026/PT1H.json", "0x8DC-1"

WORD = st.sampled_from(["", "X", "NX", "NX_HW_NOT_SUPPORTED", "nx", "0X", "é", "A B", "\\", "'", "[", "]", "%"])
DIGITS = st.one_of(
    st.integers(0, 300).map(str),
    st.sampled_from(["65535", "65536", "007", "00000000000000000000000009", str(2**63 - 1), str(2**63), "1" + "0" * 30]),
)
WEIRD = st.sampled_from(["-1", "-0", "+1", " 1", "1 ", "0x50", "0X50", "1e3", "1.5", "x", "", "٣", "NaN", "\u00a0", "null"])
GOOD_ADDRESS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.sampled_from(["[2001:DB8::1]", "2001:0db8:0:0::0001", "::ffff:10.0.0.1", "::", "FE80::1"]),
)
BAD_ADDRESS = st.sampled_from(
    ["256.0.0.1", "10.0.0", "10.0.0.01", "[10.0.0.1]", "fe80::1%eth0", "::1]", "[::1", "", "1.2.3.4 ", "a:b:c", "[]"]
)
FIELDS: dict[str, st.SearchStrategy[str]] = {
    "time": st.sampled_from(["1663146003599", "1663146003", "99999999999", "100000000000", "253402300799999", "0"]),
    "src_ip": GOOD_ADDRESS,
    "dst_ip": GOOD_ADDRESS,
    "src_port": st.integers(0, 65_535).map(str),
    "dst_port": st.sampled_from(["0", "443", "65535"]),
    "direction": st.sampled_from(["I", "O", "", "X", "inbound"]),
    "decision": st.sampled_from(["A", "D", "", "X"]),
    "state": st.sampled_from(["B", "C", "E", "D", "", "Z", "begin"]),
    "encryption": WORD,
    **dict.fromkeys(COUNTERS, st.one_of(st.just(""), st.just("0"), st.integers(0, 2**63 - 1).map(str))),
}


@st.composite
def tuple_text(draw: st.DrawFn, version: int, *, weird: bool) -> Any:
    """Draw one tuple: mostly good, cut from the right, with a bad field, too long, or anything at all."""
    columns = COLUMNS[version]
    letters = st.sampled_from(["6", "17", "0", "255"] if version == 4 else ["T", "U", "6", "255"])
    fields = [draw(letters if name == "protocol" else FIELDS[name]) for name in columns]
    kind = draw(st.integers(0, 9)) if weird else 0
    if kind == 5:
        fields[draw(st.integers(0, len(fields) - 1))] = draw(st.one_of(WEIRD, DIGITS, BAD_ADDRESS, WORD, st.text(max_size=5)))
    if kind == 6:
        fields = fields[: draw(st.integers(1, len(fields)))]
    if kind == 7:
        fields += draw(st.lists(WORD, min_size=1, max_size=3))
    if kind == 8:
        return draw(st.one_of(st.text(max_size=30), st.none(), st.integers(), st.booleans(), st.just([]), st.just({"a": "b"})))
    if kind == 9:
        fields[1] = draw(BAD_ADDRESS)
    return ",".join(fields)


@st.composite
def record(draw: st.DrawFn, *, weird: bool = True) -> dict[str, Any]:
    """Draw a record of any format."""
    category = draw(st.sampled_from([NSG, VNET]))
    version = draw(st.sampled_from([1, 2] if category == NSG else [4, 4, 4, 2]))
    if weird and draw(st.integers(0, 30)) == 0:
        version = draw(st.sampled_from([0, 3, 5, 300, 2**40]))
    columns = version if version in COLUMNS else 4
    arrays = st.lists(tuple_text(columns, weird=weird), max_size=6)
    name = st.one_of(st.none(), st.sampled_from(["UserRule_a", "Platform\u00e9Rule", "unspecified", 'a"b\\']))
    outer, inner = ("rule", "mac") if category == NSG else ("aclID", "rule")
    # Sometimes a key that Azure always writes is another one.
    tuples_key = draw(st.sampled_from(["flowTuples"] * 30 + ["tuples"] * weird))
    groups_key = draw(st.sampled_from(["flows" if category == NSG else "flowGroups"] * 30 + ["flowgroups"] * weird))
    group = st.fixed_dictionaries({inner: name, tuples_key: arrays}, optional={"other": st.integers()})
    groups = st.lists(group, max_size=3)
    flow = st.fixed_dictionaries({outer: name, groups_key: groups})
    flows = draw(st.one_of(st.lists(flow, max_size=3), st.just([]), *([st.none()] if weird else [])))
    facts: dict[str, Any] = {
        "time": draw(st.sampled_from(["2022-09-14T09:00:52.5625085Z", "2022-09-14T09:00:52Z", "soon"])),
        "category": category,
        "macAddress": draw(st.sampled_from(["00-0d-3A-f8-80-1a", "000D3AF8801A", None])),
        "operationName": category,
    }
    if category == NSG:
        facts |= {"systemId": "s", "resourceId": "/R/NSG", "properties": {"Version": version, "flows": flows}}
    else:
        facts |= {"flowLogVersion": version, "flowLogGUID": "g", "flowLogResourceID": "/R", "targetResourceID": "/T"}
        facts |= {"flowRecords": {"flows": flows}}
    keys = draw(st.permutations(list(facts)))
    return {key: facts[key] for key in keys if not (weird and draw(st.integers(0, 60)) == 0)}


RECORDS = st.lists(record(), max_size=5)

LUMP = st.one_of(
    st.binary(max_size=40),
    st.builds(lambda one: json.dumps(one).encode(), record()),
    st.sampled_from([b'"', b"{", b"}", b"]}", b"[", b"\\", b"\xff", b'{"a":1}', b'{"records":[', b"\xef\xbb\xbf", b"\r"]),
)
ANY_BYTES = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda by, lumps: by.join(lumps), st.sampled_from([b",", b"\n", b""]), st.lists(LUMP, max_size=6)),
)
# What stands between records and dead letters, of whose bytes each is a NUL.
BETWEEN = re.compile(rb'(?:\xef\xbb\xbf)?(?:[\s,\0]|\{\s*"records"\s*:\s*\[|\]\s*\}?|\xef\xbb\xbf|\[\s*(?=[\0\]]))*')


def segment(data: bytes, start: int = 0, form: SegmentFormat = SegmentFormat.RECORDS) -> Segment:
    """Return bytes as a segment."""
    return Segment(BLOB, GENERATION, start, start + len(data), 0, form, data)


def check_shape(parsed: Parsed) -> None:
    """Check what holds for any input: a valid batch, in order."""
    parsed.batch.validate(full=True)
    places = list(zip(parsed.batch["record_offset"].to_pylist(), parsed.batch["tuple_index"].to_pylist(), strict=True))
    assert len(set(places)) == len(places)


def check_nothing_is_lost(data: bytes, form: SegmentFormat) -> None:
    """Check that every byte is in a record, in a dead letter, or between them: separators, and heads and tails of envelopes."""
    gathered = gather([segment(data, form=form)], no_source)
    text = data.decode("latin-1")
    spans = [(offset, json.JSONDecoder().raw_decode(text, offset)[1]) for offset in gathered.offsets]
    for letter in gathered.letters:
        assert letter.record_offset is not None
        spans.append((letter.record_offset, letter.record_offset + len(letter.data)))
        assert data[slice(*spans[-1])] == letter.data
    rest = bytearray(data.replace(b"\0", b"?"))
    for start, end in spans:
        rest[start:end] = bytes(end - start)
    assert BETWEEN.fullmatch(rest), bytes(rest)


def letters_of(parsed: Parsed) -> list[tuple[Any, ...]]:
    """Return dead letters as comparable tuples."""
    found = [(letter.code, letter.record_offset, letter.tuple_index) for letter in parsed.dead_letters]
    return sorted(found, key=lambda letter: (letter[1] or 0, -1 if letter[2] is None else letter[2]))


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(RECORDS, st.sampled_from([None, None, 2]), st.booleans())
def test_rows_and_dead_letters_are_those_of_a_plain_parser(
    records: list[dict[str, Any]],
    indent: int | None,
    ascii_only: bool,  # noqa: FBT001
) -> None:
    """Whatever the records hold, the kernel gives the rows, in order, and the dead letters of the plain parser."""
    data, offsets = document(records, indent=indent, ascii_only=ascii_only)
    parsed = parse([segment(data)])
    truth = expected(zip(offsets, records, strict=True), BLOB, GENERATION)
    check_shape(parsed)
    assert rows_of(parsed.batch) == truth.rows
    assert letters_of(parsed) == truth.letters


@settings(max_examples=100)
@given(st.lists(record(), min_size=1, max_size=6), st.data())
def test_any_cut_into_segments_gives_the_same_rows(records: list[dict[str, Any]], data: st.DataObject) -> None:
    """However the records of a blob are spread over segments and calls, rows and dead letters are the same."""
    text, offsets = document(records, indent=None, ascii_only=True)
    whole = parse([segment(text)])
    cuts = sorted(data.draw(st.sets(st.sampled_from(range(1, len(records))))) if len(records) > 1 else [])
    # A segment ends behind its last record; the comma belongs to the next one, the tail to none.
    edges = [0, *(offsets[cut] - 1 for cut in cuts), len(text) - 2]
    pieces = [segment(text[a:b], a) for a, b in pairwise(edges)]
    calls = [[piece] for piece in pieces] if data.draw(st.booleans()) else [pieces]
    parts = [parse(call) for call in calls]
    assert [row for part in parts for row in rows_of(part.batch)] == rows_of(whole.batch)
    assert [letter for part in parts for letter in letters_of(part)] == letters_of(whole)


@settings(max_examples=50)
@given(st.lists(record(weird=False), min_size=1, max_size=4))
def test_the_slow_path_gives_what_the_fast_path_gives(records: list[dict[str, Any]]) -> None:
    """Tuples that are examined one by one become the same rows as those that pass at once."""
    data, _ = document(records, indent=None, ascii_only=True)
    fast = parse([segment(data)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "is_strict", lambda _: False)
        slow = parse([segment(data)])
    assert rows_of(slow.batch) == rows_of(fast.batch)
    assert letters_of(slow) == letters_of(fast)


@settings(max_examples=150)
@example([b"[{}"], SegmentFormat.VNET)
@given(st.lists(ANY_BYTES, max_size=3), st.sampled_from(list(SegmentFormat)))
def test_any_bytes_give_rows_or_dead_letters(blobs: list[bytes], form: SegmentFormat) -> None:
    """No bytes make the kernel raise, and none disappear."""
    check_shape(parse([segment(data, number * 1000, form) for number, data in enumerate(blobs)]))
    for data in blobs:
        check_nothing_is_lost(data, form)


def test_mutated_documents_give_rows_or_dead_letters() -> None:
    """Documents with flipped, cut, doubled and inserted bytes never make the kernel raise, and no byte disappears."""
    chance = random.Random(7)
    originals = [
        json.dumps(json.loads(path.read_bytes()), separators=(",", ":")).encode() for path in sorted(SAMPLES.glob("*.json"))
    ]
    originals += [path.read_bytes() for path in sorted(SAMPLES.glob("*.json"))]
    for _ in range(1500):
        data = bytearray(chance.choice(originals))
        for _ in range(chance.randrange(1, 6)):
            at, size = chance.randrange(len(data)), chance.randrange(1, 40)
            match chance.randrange(4):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + size]
                case 2:
                    data[at:at] = data[at : at + size]
                case _:
                    data[at:at] = chance.choice(
                        [b'"', b"\\", b"]", b"}", b"{", b"[", b",", b"\xff", b"\x00", b"\n", b"1e999", b"\\ud800"]
                    )
        form = chance.choice([SegmentFormat.RECORDS, SegmentFormat.JSON_LINES])
        check_shape(parse([segment(bytes(data), form=form)]))
        check_nothing_is_lost(bytes(data), form)
