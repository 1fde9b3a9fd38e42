"""Any message as lines for people or as JSON."""

from __future__ import annotations

import base64
import json

import pytest

from libs.common.kafka.records import Inbound
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.messages.headers import Headers
from libs.common.messages.segments import RecordPiece, Segment, SegmentFormat
from libs.common.rows.formats.line import FlowLines
from libs.common.rows.reading import reader_of
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOW_SCHEMA, FLOWS
from libs.common.rows.wire import encode_rows, row_headers
from services.cli.tail.render import AsRows, Output, render
from tests.flows import Spot, row, table


def message(value: bytes, headers: Headers = (), timestamp_ms: int = 1_777_636_800_000) -> Inbound:
    """Return a message with `value`."""
    return Inbound("t", 0, 7, timestamp_ms, b"k", value, headers)


def lines(record: Inbound, output: Output) -> list[str]:
    """Return the lines that show `record`."""
    return list(render(record, output, FlowLines()))


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
@pytest.mark.parametrize("output", list(Output))
def test_a_flow_is_one_line_whatever_its_rule_is_called(output: Output, separator: str) -> None:
    """Only a newline ends a line: the other characters that some take for one stand inside it."""
    flows = table([row(Spot(1, 1, 0), rule=f"one{separator}two"), row(Spot(1, 1, 1))]).combine_chunks().to_batches()[0]
    shown = lines(message(encode_rows(FLOWS, flows), row_headers(FLOWS)), output)
    assert len(shown) == 2
    if output is Output.JSON:
        assert json.loads(shown[0])["value"]["rule"] == f"one{separator}two"


def test_all_json_lines_have_the_same_keys() -> None:
    """Flows, other messages and what cannot be decoded differ only in their value, so that a filter works on all of them."""
    flows = table([row(Spot(1, 1, 0)), row(Spot(1, 1, 1))]).combine_chunks().to_batches()[0]
    batch = message(encode_rows(FLOWS, flows), row_headers(FLOWS))
    records = [batch, message(b"x", row_headers(FLOWS)), message(b"x", (("type", b"dead-letter"),)), message(b"x")]
    shown = [json.loads(line) for record in records for line in lines(record, Output.JSON)]
    keys = ["topic", "partition", "offset", "timestamp", "key", "type", "value"]
    assert [list(line) for line in shown] == [keys] * 5
    assert [line["type"] for line in shown] == ["flow-batch"] * 3 + ["dead-letter", None]
    assert [line["value"].get("tuple_index") for line in shown] == [0, 1, None, None, None]
    assert {(line["topic"], line["partition"], line["offset"], line["key"]) for line in shown} == {("t", 0, 7, "k")}


def test_a_flow_has_its_keys_in_the_order_of_the_schema() -> None:
    """What stands under value begins with the time and goes on as the schema does."""
    flows = table([row(Spot(1, 1, 0)), row(Spot(1, 1, 1), rule=None)]).combine_chunks().to_batches()[0]
    for line in lines(message(encode_rows(FLOWS, flows), row_headers(FLOWS)), Output.JSON):
        keys = list(json.loads(line)["value"])
        assert keys == [name for name in FLOW_SCHEMA.names if name in keys]


@pytest.mark.parametrize("piece", [None, RecordPiece(1, 3, 20)])
def test_a_segment_shows_where_it_stands(piece: RecordPiece | None) -> None:
    """Everything that its headers say is there, and which part of a cut record it is if it is one."""
    segment = Segment("a.b/logs/c", "g", 14, 17, 2, SegmentFormat.VNET, b"{}", piece)
    [shown] = lines(message(segment.data, segment.headers()), Output.JSON)
    expected = {"blob": "a.b/logs/c", "generation": "g", "start": 14, "end": 17, "ordinal": 2, "format": "vnet", "data": "{}"}
    cut = {} if piece is None else {"piece": {"number": 1, "count": 3, "first_tuple": 20}}
    assert json.loads(shown)["value"] == expected | cut
    [line] = lines(message(segment.data, segment.headers()), Output.TEXT)
    assert "a.b/logs/c" in line


@pytest.mark.parametrize("timestamp_ms", [-1, 2**62, -(2**62)])
@pytest.mark.parametrize("output", list(Output))
def test_a_timestamp_that_is_no_date_is_shown_as_its_number(output: Output, timestamp_ms: int) -> None:
    """A message that was written with an odd time does not end the tail."""
    [shown] = lines(message(b"x", timestamp_ms=timestamp_ms), output)
    assert ("1969-12-31T23:59:59.999Z" if timestamp_ms == -1 else str(timestamp_ms)) in shown


# Values longer than a line for people shows, and how JSON shows them.
LONG = [
    (("x" + "€" * 500).encode(), "x" + "€" * 500),
    (b"\xff" * 500, "base64:" + base64.b64encode(b"\xff" * 500).decode()),
]


@pytest.mark.parametrize(("value", "whole"), LONG)
def test_json_shows_all_bytes(value: bytes, whole: str) -> None:
    """A program that reads them can use the dead letter or segment as it is."""
    [shown] = lines(message(value), Output.JSON)
    assert json.loads(shown)["value"]["bytes"] == whole


@pytest.mark.parametrize(("value", "whole"), LONG)
def test_lines_for_people_are_cut_where_a_character_ends(value: bytes, whole: str) -> None:
    """Text stays text when it is cut, and the size of the whole is told."""
    [shown] = lines(message(value), Output.TEXT)
    assert len(shown) < 600
    assert whole[:100] in shown
    assert f"… ({len(value)} bytes)" in shown


LETTER = DeadLetter("parser", ErrorCode.BAD_JSON, "not JSON", b"{" * 500, blob="a.b/logs/c", record_offset=14)


def test_a_batch_of_any_row_type_is_a_line_a_row() -> None:
    """Rows without a line format of their own are shown by the names of their columns."""
    [batch] = DEAD_LETTERS.example_table.to_batches()
    record = message(encode_rows(DEAD_LETTERS, batch), row_headers(DEAD_LETTERS))
    [line] = lines(record, Output.TEXT)
    assert "dead_letters" in line
    assert "code=bad_address" in line
    [shown] = lines(record, Output.JSON)
    assert (json.loads(shown)["type"], json.loads(shown)["value"]["letter_offset"]) == ("row-batch", 88)


def test_a_batch_of_a_row_type_that_nobody_knows_is_shown_with_its_name() -> None:
    """A tail hides no message, also none from a later version."""
    for output in Output:
        [line] = lines(message(b"x", (("type", b"row-batch"), ("row-type", b"comets"))), output)
        assert "undecodable" in line
        assert "'comets'" in line


def test_messages_are_shown_as_rows_of_a_type_where_that_is_asked_for() -> None:
    """A dead letter has the columns that a sink of dead letters writes, and what is no dead letter is shown all the same."""
    as_rows = AsRows(DEAD_LETTERS, reader_of(DEAD_LETTERS, lambda topic: f"id of {topic}"))
    letter = message(LETTER.data, LETTER.headers())
    [shown] = render(letter, Output.JSON, FlowLines(), as_rows)
    value = json.loads(shown)["value"]
    assert (value["code"], value["record_offset"], value["bytes_text"]) == ("bad_json", 14, "{" * 500)
    assert (value["letter_source"], value["letter_generation"], value["letter_offset"]) == ("t/0", "id of t", 7)
    [line] = render(letter, Output.TEXT, FlowLines(), as_rows)
    assert "… (500 characters)" in line
    [other] = render(message(b"x"), Output.JSON, FlowLines(), as_rows)
    assert "not a dead letter" in json.loads(other)["value"]["undecodable"]
