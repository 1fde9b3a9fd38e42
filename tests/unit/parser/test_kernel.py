"""The parser's kernel on samples, odd envelopes and bad tuples."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from libs.common.messages.dead_letters import ErrorCode
from libs.common.messages.segments import RecordPiece, Segment, SegmentFormat
from libs.common.rows import row_text
from libs.common.rows.formats import csv as csv_text
from libs.common.rows.formats.csv import csv_lines
from libs.common.rows.formats.json import json_lines
from services.parser.flows import addresses
from services.parser.flows.groups import MAX_NAME
from services.parser.flows.kernel import Parsed, parse
from tests.parser_oracle import rows_of

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
GOOD = "1663146003599,10.0.0.6,192.0.2.180,23956,443,6,O,B,NX,0,0,0,0"
GOOD_NSG = "1542110402,192.0.2.190,10.5.16.4,28746,443,U,I,D,B,,,,"


def segment(data: bytes, start: int = 0, **changes: Any) -> Segment:
    """Return bytes as a segment."""
    values: dict[str, Any] = {"blob": "a.b/logs/PT1H.json", "generation": "g", "ordinal": 0, "format": SegmentFormat.RECORDS}
    return Segment(start=start, end=start + len(data), data=data, **(values | changes))


def vnet(*tuples: object, version: int = 4, **changes: object) -> dict[str, Any]:
    """Return a VNet record."""
    flows = [{"aclID": "acl", "flowGroups": [{"rule": "r", "flowTuples": list(tuples)}]}]
    facts = {"time": "2022-09-14T09:00:52.5625085Z", "category": "FlowLogFlowEvent", "flowLogVersion": version}
    return facts | {"macAddress": "00-22-48-5d-8c-f8", "flowRecords": {"flows": flows}} | changes


def nsg(*tuples: str, version: int = 2) -> dict[str, Any]:
    """Return an NSG record."""
    flows = [{"rule": "r", "flows": [{"mac": "000D3AF87856", "flowTuples": list(tuples)}]}]
    facts = {"time": "2022-09-14T09:00:52Z", "category": "NetworkSecurityGroupFlowEvent", "resourceId": "/NSG"}
    return facts | {"properties": {"Version": version, "flows": flows}}


def envelope(*records: object) -> bytes:
    """Return a whole document."""
    return json.dumps({"records": records}, separators=(",", ":")).encode()


def codes(parsed: Parsed) -> list[tuple[ErrorCode, int | None, bytes]]:
    """Return code, tuple index and bytes of the dead letters."""
    return [(letter.code, letter.tuple_index, letter.data) for letter in parsed.dead_letters]


def totals(batch: pa.RecordBatch) -> dict[str, int | None]:
    """Return the sums of the counters."""
    names = ("packets_sent", "bytes_sent", "packets_received", "bytes_received")
    return {name: pc.sum(batch[name]).as_py() for name in names}


@pytest.mark.parametrize(
    ("name", "records", "counts", "sums"),
    [
        ("nsg_v1_nested_records.json", 5, {"allow": 15, "deny": 6, "6": 19, "17": 2, "inbound": 21, "None": 21}, [None] * 4),
        ("nsg_v1_empty_flows.json", 1, {"allow": 40, "6": 40, "inbound": 4, "outbound": 36, "None": 40}, [None] * 4),
        (
            "nsg_v2.json",
            2,
            {"begin": 8, "continuing": 1, "end": 2, "allow": 4, "deny": 7, "6": 10, "17": 1, "inbound": 7, "outbound": 4},
            [46, 25533, 37, 21128],
        ),
        (
            "vnet_v4.json",
            1,
            {"begin": 5, "deny": 9 + 9, "end": 5, "allow": 10, "6": 19, "inbound": 9, "outbound": 10},
            [33, 4528, 44, 43292],
        ),
        ("vnet_v4_bare_record.json", 1, {"deny": 10 + 10, "inbound": 10, "6": 10}, [0] * 4),
    ],
)
def test_published_samples_give_their_published_totals(
    name: str, records: int, counts: dict[str, int], sums: list[int | None]
) -> None:
    """Microsoft's samples give the records, decisions, states, protocols, directions and sums they are known to have."""
    data = (SAMPLES / name).read_bytes()
    parsed = parse([segment(data)])
    rows = rows_of(parsed.batch)
    assert parsed.records == records
    assert not parsed.dead_letters
    assert Counter(str(row[column]) for row in rows for column in ("action", "state", "protocol", "direction")) == counts
    assert list(totals(parsed.batch).values()) == sums
    assert all(json.JSONDecoder().raw_decode(data.decode(), row["record_offset"]) for row in rows)


@pytest.mark.parametrize("kind", ["nsg_v2", "vnet_v4"])
def test_deltas_of_one_conversation_add_up_to_the_published_total(kind: str) -> None:
    """Counters of continuing and end tuples sum to what Microsoft's article says, in either format."""
    example = json.loads((SAMPLES / "bandwidth_examples.json").read_bytes())[kind]
    record = nsg(*example["tuples"]) if kind == "nsg_v2" else vnet(*example["tuples"])
    parsed = parse([segment(envelope(record))])
    sums = totals(parsed.batch)
    for unit in ("packets", "bytes"):
        sent, received = sums[f"{unit}_sent"], sums[f"{unit}_received"]
        assert sent is not None
        assert received is not None
        assert sent + received == example["expected"][f"total_{unit}"]
    assert parsed.batch["packets_sent"].to_pylist() == [None, 1021, 52]
    assert set(parsed.batch["time"].cast(pa.int64()).to_pylist()) == {1708978215000}


WEIRD = ["", "-1", "-0", "+1", " 1", "1 ", "0x1", "0X1", "1e0", "1.0", "٣", "NaN", "1" + "0" * 30, "999999999999999999999"]


@pytest.mark.parametrize("column", [0, 3, 4, 5, 9, 10, 11, 12])
@pytest.mark.parametrize("value", WEIRD)
def test_what_is_no_plain_number_is_dead_lettered_alone(column: int, value: str) -> None:
    """A sign, blank, exponent, hexadecimal or overflow in any numeric column costs that tuple only; empty counters are null."""
    fields = GOOD.split(",")
    fields[column] = value
    bad = ",".join(fields)
    parsed = parse([segment(envelope(vnet(GOOD, bad, GOOD)))])
    if value == "" and column >= 9:
        assert not parsed.dead_letters
        assert parsed.batch[("packets_sent", "bytes_sent", "packets_received", "bytes_received")[column - 9]][1].as_py() is None
        return
    assert codes(parsed) == [(ErrorCode.BAD_NUMBER, 1, bad.encode())]
    assert parsed.batch["tuple_index"].to_pylist() == [0, 2]


@pytest.mark.parametrize(
    ("element", "code"),
    [
        ("1663146003599,10.0.0.6", ErrorCode.SHORT_TUPLE),
        ("", ErrorCode.SHORT_TUPLE),
        (GOOD + ",0", ErrorCode.LONG_TUPLE),
        (GOOD.replace("10.0.0.6", "10.0.0.256"), ErrorCode.BAD_ADDRESS),
        (GOOD.replace("10.0.0.6", "10.0.0.06"), ErrorCode.BAD_ADDRESS),
        (GOOD.replace("10.0.0.6", "fe80::1%eth0"), ErrorCode.BAD_ADDRESS),
        (GOOD.replace(",6,", ",T,"), ErrorCode.BAD_NUMBER),
        (GOOD.replace(",6,", ",256,"), ErrorCode.BAD_NUMBER),
        (GOOD.replace("23956", "65536"), ErrorCode.BAD_NUMBER),
        (GOOD.replace(",O,", ',"O",'), ErrorCode.BAD_RECORD),
        (GOOD.replace(",O,", ",\n,"), ErrorCode.BAD_RECORD),
        (5, ErrorCode.BAD_RECORD),
        (None, ErrorCode.BAD_RECORD),
    ],
)
def test_a_bad_tuple_leaves_its_siblings_alone(element: object, code: ErrorCode) -> None:
    """Each kind of bad tuple has its code, its index and its bytes; the tuples around it become rows with their own index."""
    parsed = parse([segment(envelope(vnet(GOOD, element, GOOD), vnet(GOOD)))])
    (letter,) = parsed.dead_letters
    assert (letter.code, letter.tuple_index) == (code, 1)
    assert letter.data in {str(element).encode(), json.dumps(element).encode()}
    assert (letter.blob, letter.generation, letter.record_offset) == ("a.b/logs/PT1H.json", "g", len('{"records":['))
    assert parsed.batch["tuple_index"].to_pylist() == [0, 2, 0]


def test_addresses_are_canonical() -> None:
    """IPv6 may stand in brackets and in any spelling; it comes out as RFC 5952 wants it, IPv4 as it was."""
    given = ["[2001:DB8:0:0::1]", "2001:db8::1", "::FFFF:a00:1", "10.0.0.6"]
    parsed = parse([segment(envelope(vnet(*(GOOD.replace("10.0.0.6", address) for address in given))))])
    assert parsed.batch["src_ip"].to_pylist() == ["2001:db8::1", "2001:db8::1", "::ffff:10.0.0.1", "10.0.0.6"]


def test_what_is_too_long_for_an_address_is_not_remembered() -> None:
    """Addresses are remembered because they come again; text of any length that is none takes no memory after its batch."""
    remembered = addresses._canonical.cache_info().currsize
    parsed = parse([segment(envelope(vnet(GOOD, GOOD.replace("10.0.0.6", "1" + ":" * 10_000), GOOD)))])
    assert [letter.code for letter in parsed.dead_letters] == [ErrorCode.BAD_ADDRESS]
    assert addresses._canonical.cache_info().currsize == remembered


def test_columns_follow_category_and_version() -> None:
    """One blob may change version; NSG letters under VNet nesting are read as NSG columns; order is that of the text."""
    v1 = GOOD_NSG.split(",B", maxsplit=1)[0]
    records = [
        nsg(v1, version=1),
        vnet(GOOD),
        nsg(GOOD_NSG),
        vnet(GOOD_NSG, version=2),
        vnet(GOOD, version=2),
        nsg(v1, version=1),
    ]
    rows = rows_of(parse([segment(envelope(*records))]).batch)
    assert [row["flow_log_version"] for row in rows] == [1, 4, 2, 2, 2, 1]
    assert [row["state"] for row in rows] == [None, "begin", "begin", "begin", "begin", None]
    assert [row["action"] for row in rows] == ["deny", "allow", "deny", "deny", "allow", "deny"]
    assert [row["encryption"] for row in rows] == [None, "NX", None, None, "NX", None]
    assert [row["mac"] for row in rows] == ["000D3AF87856", "0022485D8CF8"] * 1 + ["000D3AF87856"] + ["0022485D8CF8"] * 2 + [
        "000D3AF87856"
    ]
    assert [row["record_offset"] for row in rows] == sorted(row["record_offset"] for row in rows)


def test_unknown_formats_and_broken_records_cost_only_themselves() -> None:
    """Another category, another version, a missing body and a wrong shape are dead letters with the record's bytes."""
    bad = [
        (ErrorCode.UNKNOWN_FORMAT, {"category": "Other", "properties": "anything"}),
        (ErrorCode.UNKNOWN_FORMAT, vnet(GOOD, version=5)),
        (ErrorCode.UNKNOWN_FORMAT, {"a": 1}),
        (ErrorCode.UNKNOWN_FORMAT, {"records": [vnet(GOOD)], "flowRecords": vnet(GOOD)["flowRecords"]}),
        (ErrorCode.BAD_RECORD, {"category": "FlowLogFlowEvent", "flowLogVersion": 4}),
        (ErrorCode.BAD_RECORD, vnet(flowRecords={"flows": {"not": "a list"}})),
        (ErrorCode.BAD_RECORD, 7),
        (ErrorCode.BAD_RECORD, {"records": 5}),
    ]
    data = envelope(vnet(GOOD), *(record for _, record in bad), vnet(GOOD))
    parsed = parse([segment(data)])
    texts = [json.dumps(record, separators=(",", ":")).encode() for _, record in bad]
    assert codes(parsed) == [(code, None, text) for (code, _), text in zip(bad, texts, strict=True)]
    assert [letter.record_offset for letter in parsed.dead_letters] == [data.index(text) for text in texts]
    assert parsed.batch.num_rows == 2


def _without(record: dict[str, Any], *path: str | int) -> dict[str, Any]:
    """Return `record` with the last key of `path` renamed."""
    record = json.loads(json.dumps(record))
    inside: Any = record
    for step in path[:-1]:
        inside = inside[step]
    inside["other"] = inside.pop(path[-1])
    return record


@pytest.mark.parametrize(
    "record",
    [
        _without(vnet(GOOD), "flowRecords"),
        _without(vnet(GOOD), "flowRecords", "flows"),
        _without(vnet(GOOD), "flowRecords", "flows", 0, "flowGroups"),
        _without(vnet(GOOD), "flowRecords", "flows", 0, "flowGroups", 0, "flowTuples"),
        _without(nsg(GOOD_NSG), "properties"),
        _without(nsg(GOOD_NSG), "properties", "flows"),
        _without(nsg(GOOD_NSG), "properties", "flows", 0, "flows"),
        _without(nsg(GOOD_NSG), "properties", "flows", 0, "flows", 0, "flowTuples"),
        vnet(GOOD, records=[vnet(GOOD)]),
    ],
)
def test_a_record_whose_tuples_may_stand_under_another_key_is_not_taken_for_an_empty_one(record: dict[str, Any]) -> None:
    """A key that Azure always writes is missing, or records stand beside a body: a dead letter with the whole record."""
    for form in (SegmentFormat.RECORDS, SegmentFormat.JSON_LINES):
        data = json.dumps(record).encode()
        parsed = parse([segment(data, format=form)])
        assert codes(parsed) == [(ErrorCode.BAD_RECORD, None, data)]
        assert (parsed.batch.num_rows, parsed.records) == (0, 0)


@pytest.mark.parametrize("nothing", [None, []])
def test_a_record_without_tuples_is_an_empty_one(nothing: object) -> None:
    """Null and the empty list, on any level, are what Azure writes when there is nothing to tell."""
    group = {"rule": "r", "flowTuples": nothing}
    records = [
        vnet(flowRecords={"flows": nothing}),
        vnet(flowRecords={"flows": [{"aclID": "a", "flowGroups": nothing}]}),
        vnet(flowRecords={"flows": [{"aclID": "a", "flowGroups": [group]}]}, records=nothing),
        nsg() | {"properties": {"Version": 2, "flows": nothing}},
        nsg() | {"properties": {"Version": 2, "flows": [{"rule": "r", "flows": nothing}]}},
        nsg() | {"properties": {"Version": 2, "flows": [{"rule": "r", "flows": [{"mac": "0", "flowTuples": nothing}]}]}},
        vnet(
            version=2, flowRecords={"flows": [{"aclID": "a", "flowGroups": [group, {"rule": "r", "flowTuples": [GOOD_NSG]}]}]}
        ),
    ]
    parsed = parse([segment(envelope(*records))])
    assert (codes(parsed), parsed.records, parsed.batch.num_rows) == ([], len(records), 1)


@pytest.mark.parametrize("foreign", [{}, "x", 5, {"Version": 1, "flows": "x"}, {"Version": 2, "flows": []}])
def test_the_body_of_the_other_category_is_a_field_like_any_unknown_one(foreign: object) -> None:
    """What stands where only the other category has its body neither spoils a record nor lends it its version."""
    parsed = parse([segment(envelope(vnet(GOOD, properties=foreign), nsg(GOOD_NSG) | {"flowRecords": foreign}))])
    assert (codes(parsed), parsed.batch["flow_log_version"].to_pylist()) == ([], [4, 2])


@pytest.mark.parametrize("name", ["rule", "acl", "mac", "flowLogGUID", "flowLogResourceID", "targetResourceID", "systemId"])
def test_a_name_that_no_azure_name_is_as_long_as_is_refused(name: str) -> None:
    """A name is repeated in every row, so one that is too long would make text of gigabytes: it costs its record."""

    def record(length: int) -> dict[str, Any]:
        word = "é" * length
        if name in {"rule", "acl"}:
            names = {"aclID": "acl", "rule": "r"} | ({"rule": word} if name == "rule" else {"aclID": word})
            group = {"rule": names["rule"], "flowTuples": [GOOD]}
            return vnet(flowRecords={"flows": [{"aclID": names["aclID"], "flowGroups": [group]}]})
        return vnet(GOOD) | {"macAddress" if name == "mac" else name: word}

    parsed = parse([segment(envelope(record(MAX_NAME), record(MAX_NAME + 1)))])
    assert [letter.code for letter in parsed.dead_letters] == [ErrorCode.BAD_RECORD]
    assert parsed.batch.num_rows == 1


def test_rows_with_the_longest_names_can_be_written_as_text() -> None:
    """However many rows repeat names of the greatest length, and whatever the names hold, JSON and CSV can be made of them."""
    word = "\x01" * MAX_NAME
    record = vnet(*[GOOD] * 1000) | dict.fromkeys(["flowLogGUID", "flowLogResourceID", "targetResourceID", "systemId"], word)
    record["flowRecords"]["flows"][0] |= {"aclID": word}
    record["flowRecords"]["flows"][0]["flowGroups"][0] |= {"rule": word}
    table = pa.Table.from_batches([parse([segment(envelope(record))]).batch])
    bytes_a_row = max(len(json_lines(table)), len(csv_lines(table, header=False))) / table.num_rows
    assert bytes_a_row * csv_text.CHUNK_ROWS < 2**31
    assert bytes_a_row + row_text.SLICE_BYTES < 2**31


def test_records_in_envelopes_in_envelopes_keep_their_offsets() -> None:
    """An element that is itself an envelope is descended into; too many of them inside each other are refused."""
    inner = {"x": [vnet(GOOD)], "records": [vnet(GOOD), {"records": [vnet(GOOD, GOOD)]}]}
    data = envelope(vnet(GOOD), inner)
    batch = parse([segment(data)]).batch
    starts = [index for index in range(len(data)) if data.startswith(b'{"time"', index)]
    assert batch["record_offset"].to_pylist() == [starts[0], starts[2], starts[3], starts[3]]
    assert codes(parse([segment(b'{"records":[' * 100 + b"]}" * 100)]))[0][0] is ErrorCode.BAD_RECORD


def test_a_segment_may_begin_with_mark_head_or_comma_and_end_with_or_without_the_tail() -> None:
    """However much of the envelope a segment holds, the rows are the same."""
    record = json.dumps(vnet(GOOD)).encode()
    for head in (b"", b",", b" , ", b'{"records":[', b'\xef\xbb\xbf{ "records" : [ ', b'{"records":[,'):
        for tail in (b"", b",", b" ", b"]}", b" ] }\r\n"):
            parsed = parse([segment(head + record + tail, start=100)])
            assert (parsed.batch["record_offset"].to_pylist(), parsed.dead_letters) == ([100 + len(head)], [])
    for empty in (b"", b'{"records":[', b'{"records":[]}', b"]}", b"\xef\xbb\xbf"):
        parsed = parse([segment(empty)])
        assert (parsed.batch.num_rows, parsed.dead_letters) == (0, [])


def test_one_broken_record_of_a_segment_costs_only_itself() -> None:
    """Bytes that are no JSON, or no UTF-8, are dead-lettered between the records around them."""
    good = json.dumps(vnet(GOOD)).encode()
    for bad in (b'{"a":NaN}', b'{"a":"\xff"}', b"tru", b'{"a":"\\ud800"}', b"[" * 2000 + b"]" * 2000, b'{"a":"\x01"}'):
        parsed = parse([segment(b'{"records":[' + good + b"," + bad + b"," + good + b"]}")])
        assert codes(parsed) == [(ErrorCode.BAD_JSON, None, bad)]
        assert parsed.dead_letters[0].record_offset == len(b'{"records":[') + len(good) + 1
        assert parsed.batch.num_rows == 2


def test_json_lines_hold_envelopes_records_or_garbage() -> None:
    """Each line is judged alone, with its own offset."""
    record = json.dumps(vnet(GOOD)).encode()
    lines = [record, envelope(nsg(GOOD_NSG)), b"", b"garbage", record]
    parsed = parse([segment(b"\r\n".join(lines), format=SegmentFormat.JSON_LINES)])
    ends = len(record) + 2
    assert parsed.batch["record_offset"].to_pylist() == [0, ends + len('{"records":['), len(b"\r\n".join(lines)) - len(record)]
    assert codes(parsed) == [(ErrorCode.BAD_JSON, None, b"garbage")]


def test_pieces_of_a_record_have_the_identity_of_the_whole() -> None:
    """A tuple's offset and index do not depend on how its record was cut."""
    whole = parse([segment(b"," + json.dumps(vnet(GOOD, GOOD, "bad", GOOD)).encode(), start=50)])
    cut = [(0, (GOOD, GOOD)), (2, ("bad", GOOD))]
    pieces = [
        segment(b"," + json.dumps(vnet(*tuples)).encode(), start=50, piece=RecordPiece(number, 2, first))
        for number, (first, tuples) in enumerate(cut)
    ]
    parsed = parse(pieces)
    assert rows_of(parsed.batch) == rows_of(whole.batch)
    assert codes(parsed) == codes(whole)


def test_many_blobs_of_one_call_keep_apart() -> None:
    """Rows of several segments and blobs carry their own blob, generation and offset, and dead letters their own source."""
    data = b"," + json.dumps(vnet(GOOD, "bad")).encode()
    segments = [
        segment(data, start=number * 1000, blob=f"a.b/c/{number % 3}", generation=str(number % 2)) for number in range(6)
    ]
    parsed = parse(segments, lambda number: {"offset": str(number)})
    rows = rows_of(parsed.batch)
    places = [(row["blob"], row["generation"], row["record_offset"], row["tuple_index"]) for row in rows]
    assert places == [(f"a.b/c/{number % 3}", str(number % 2), number * 1000 + 1, 0) for number in range(6)]
    assert [letter.source["offset"] for letter in parsed.dead_letters] == [str(number) for number in range(6)]
    assert [letter.tuple_index for letter in parsed.dead_letters] == [1] * 6


def test_a_record_time_that_is_none_is_null() -> None:
    """Unreadable and missing record times cost nothing but the column."""
    times = ["2022-09-14T09:00:52.5625085Z", "soon", None, "9999-01-01T00:00:00Z"]
    batch = parse([segment(envelope(*(vnet(GOOD, time=time) for time in times)))]).batch
    assert batch["record_time"].cast(pa.int64()).to_pylist() == [1663146052562508500, None, None, None]
