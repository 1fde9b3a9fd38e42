"""Documents one after the other: however they are joined, written and read, the same rows come out."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.messages.segments import Segment
from services.cli.convert import input as convert_input
from services.ingest.cutting.window import SizeLimits
from services.parser.flows.kernel import parse
from tests.blob_reading import Desk, assert_tiles
from tests.parser_oracle import rows_of
from tests.unit.parser.test_kernel import GOOD, GOOD_NSG, nsg, vnet

MARK = "\ufeff"
RECORDS = st.lists(st.sampled_from([vnet(GOOD), vnet(GOOD, GOOD), nsg(GOOD_NSG), vnet(*[GOOD] * 9)]), min_size=1, max_size=3)
SEPARATORS = ["", "\n", "\r\n", ",", ",\n", MARK, "\n" + MARK, "\n\n"]
KEYS = ["", ',"more":1', ' , "more":{"a":["]}",{"b":"\\"["}]}', ',"a":null,"b":[[]]']


@dataclass
class Text:
    """A text, and where its records with tuples stand."""

    data: bytes = b""
    offsets: list[int] | None = None

    def add(self, text: str) -> None:
        """Add what is no record."""
        self.data += text.encode()

    def add_records(self, records: list[dict[str, object]], indent: int | None, separator: str = ",") -> None:
        """Add records, separated."""
        self.offsets = self.offsets or []
        for number, record in enumerate(records):
            self.add(separator if number else "")
            self.offsets.append(len(self.data))
            self.add(json.dumps(record, indent=indent))


@st.composite
def texts(draw: st.DrawFn) -> tuple[Text, list[int]]:
    """Draw documents of any kinds, joined in any way; return their text and where each ends."""
    text, ends = Text(), []
    indent = draw(st.sampled_from([None, None, 1]))
    separators = st.sampled_from(draw(st.sampled_from([SEPARATORS, [""], ["\n"], [MARK]])))
    for number in range(draw(st.integers(1, 5))):
        text.add(draw(separators) if number else draw(st.sampled_from(["", MARK])))
        _add_document(draw, text, indent)
        ends.append(len(text.data))
    text.add(draw(st.sampled_from(["", "\n"])))
    return text, ends


def _add_document(draw: st.DrawFn, text: Text, indent: int | None) -> None:
    records = draw(RECORDS)
    keys = draw(st.sampled_from(KEYS))
    match draw(st.sampled_from(["envelope", "envelope", "array", "array of envelopes", "records"])):
        case "envelope":
            text.add('{"records":[')
            text.add_records(records, indent)
            text.add(f"]{keys}}}")
        case "array":
            text.add("[\n" if indent else "[")
            text.add_records(records, indent)
            text.add("]")
        case "array of envelopes":
            for number, record in enumerate(records):
                text.add((",\n" if indent else ",") if number else "[")
                text.add('{"records":[')
                text.add_records([record], indent)
                text.add(f"]{keys}}}")
            text.add("]")
        case "records":
            text.add_records(records, indent, draw(st.sampled_from(["\n", ""])))


def offsets_of(segments: list[Segment]) -> list[int]:
    """Return the offsets of the records that give rows, in order; there must be no dead letters."""
    parts = [parse([one]) for one in segments]
    assert [letter for part in parts for letter in part.dead_letters] == []
    return list(dict.fromkeys(row["record_offset"] for part in parts for row in rows_of(part.batch)))


@settings(max_examples=300)
@given(texts(), st.data())
def test_any_way_of_writing_and_reading_documents_gives_the_same_rows(
    drawn: tuple[Text, list[int]], data: st.DataObject
) -> None:
    """Blocks or appends of any size, reads of any size: each record becomes its rows, at its own offset in the blob."""
    text, _ = drawn
    desk = Desk(limits=SizeLimits(segment=100_000, line=100_000, record=1_000_000), allowance=data.draw(st.integers(1, 3000)))
    places = data.draw(st.sets(st.integers(1, len(text.data)), max_size=4), label="commits")
    blocks = data.draw(st.booleans(), label="blocks")
    edges = sorted({0, *places, *range(0, len(text.data), 97), len(text.data)})
    for end in sorted({*places, len(text.data)}):
        if blocks:
            cuts = [(a, b) for a, b in pairwise(edges) if b <= end]
            desk.container.commit(desk.name, [(f"{a:04d}", text.data[a:b]) for a, b in cuts])
        else:
            desk.container.put(desk.name, text.data[:end], kind="AppendBlob")
        desk.read()
    desk.read(closed=True)
    assert desk.dead_letters == []
    assert_tiles(desk.segments)
    assert offsets_of(desk.segments) == text.offsets


@settings(max_examples=200)
@given(texts(), st.sampled_from([300, 2000, 1 << 20]))
def test_convert_gives_the_rows_of_documents_however_they_are_joined(drawn: tuple[Text, list[int]], chunk: int) -> None:
    """The file is read in chunks of any size; its first document fits in one."""
    text, ends = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert_input, "CHUNK_BYTES", max(chunk, ends[0] + 8))
        patch.setattr(convert_input, "opened", nullcontext)
        patch.setattr(convert_input, "text_chunks", lambda *_: (text.data[n : n + 100] for n in range(0, len(text.data), 100)))
        found = list(convert_input.segments_of("file"))
    assert offsets_of([one for one in found if isinstance(one, Segment)]) == text.offsets


@settings(max_examples=100)
@given(st.lists(RECORDS, min_size=2, max_size=5), st.sampled_from(["", MARK]), st.sampled_from(KEYS), st.data())
def test_rows_of_a_document_come_soon_after_it_was_appended(
    documents: list[list[dict[str, object]]], separator: str, keys: str, data: st.DataObject
) -> None:
    """An append blob to which whole documents are appended is read document by document, long before it is closed."""
    desk, text = Desk(), Text()
    indent = data.draw(st.sampled_from([None, 1]))
    for records in documents:
        text.add(separator + '{"records":[')
        text.add_records(records, indent)
        text.add(f"]{keys}}}")
        desk.container.put(desk.name, text.data, kind="AppendBlob")
        desk.read()
        assert offsets_of(desk.segments) == text.offsets
    desk.read(closed=True)
    assert (desk.dead_letters, desk.checkpoint and desk.checkpoint.status) == ([], "complete")
    assert_tiles(desk.segments)
