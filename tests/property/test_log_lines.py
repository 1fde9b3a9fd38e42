"""Any line of JSON is one row that says the same as its document, or one dead letter, whatever lines are read with it."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.messages.dead_letters import DeadLetter
from libs.common.messages.segments import Segment, SegmentFormat
from libs.common.rows.types.spans import SPANS
from services.parser.extraction import Arrived, Extraction
from services.parser.logs.kernel import LogKernel
from services.parser.logs.options import LogOptions
from services.parser.logs.times import access_time, count_time, iso_time
from tests import json_lines
from tests.json_lines import Members
from tests.log_rows import spans

OBSERVED: Final = 1_777_636_800_000_000_000
START: Final = 100
SOURCE: Final = "kubernetes"
UNSAID: Final = {"_p", "record_date", "localizedmessage"}
"""Members that are ignored, because others say the same."""
ELSEWHERE: Final = {"attributes", "resource_attributes", "blob", "generation"}
SPARE: Final = {"time", "timemillis", "identdusername"}
"""Members that these formats do not need if another one gives a better answer."""
HEX: Final = {digits: re.compile(f"(?!0+$)[0-9a-f]{{{digits}}}") for digits in (16, 32)}
COLLECTED: Final = {"access", "http", "log4j2", "container"}


def segment_of(lines: list[bytes], start: int = START) -> Segment:
    """Return lines as a segment."""
    data = b"".join(line + b"\n" for line in lines)
    return Segment("a.b/logs/x", "g", start, start + len(data), 0, SegmentFormat.LINES, data)


def offsets_of(lines: list[bytes], start: int = START) -> list[int]:
    """Return the offset of each line."""
    return [start + sum(len(line) + 1 for line in lines[:number]) for number in range(len(lines))]


def parse(*segments: Segment, is_proxy: bool = False) -> Extraction:
    """Read segments with a kernel that has seen nothing."""
    return LogKernel(LogOptions(), is_proxy_stream=is_proxy).extract(Arrived(segments, [OBSERVED] * len(segments)))


def rows_of(parsed: Extraction) -> dict[int, dict[str, Any]]:
    """Return rows by offset, those of requests with their spans; times are whole numbers of nanoseconds."""
    found: dict[int, dict[str, Any]] = {}
    for table in parsed.tables:
        if table.row_type is SPANS:
            continue
        times = {name: table.batch[name].cast("int64").to_pylist() for name in ("time", "observed_time")}
        for number, row in enumerate(table.batch.drop_columns(list(times)).to_pylist()):
            assert row["line_offset"] not in found
            times_of_row = {name: column[number] for name, column in times.items()}
            found[row["line_offset"]] = {"type": table.row_type.name, **times_of_row, **row}
    for span in spans(parsed):
        row = found[span["line_offset"]]
        assert "span" not in row
        row["span"] = span
        check_span(span, row)
    return found


def check_span(span: dict[str, Any], row: dict[str, Any]) -> None:
    """Check that a span is of a request that can be followed, has valid ids, and says what its request says."""
    assert row["correlation_id"] or row["trace_id"]
    assert span["row_type"] == row["type"]
    assert HEX[32].fullmatch(span["trace_id"])
    assert HEX[16].fullmatch(span["span_id"])
    assert span["parent_span_id"] is None or HEX[16].fullmatch(span["parent_span_id"])
    assert row["time"] in (span["time"], span["end_time"])
    if span["end_time"] is not None:
        assert span["end_time"] - span["time"] == row["response_time"] * 1_000
    same = {"time", "correlation_id", "trace_id", "span_id"}
    assert all(value == row[name] for name, value in span.items() if name in row and name not in same)


def letters_of(parsed: Extraction) -> dict[int | None, tuple[str, str, bytes]]:
    """Return what matters of dead letters by offset."""
    found = {letter.record_offset: _matters(letter) for letter in parsed.dead_letters}
    assert len(found) == len(parsed.dead_letters)
    return found


def _matters(letter: DeadLetter) -> tuple[str, str, bytes]:
    return letter.code.value, letter.reason, bytes(letter.data)


def check_says_the_same(row: dict[str, Any], document: dict[str, Any]) -> None:
    """Check that each member of a document is in a column or among the attributes, and nothing else is."""
    said = json_lines.leaves(json_lines.read(row["attributes"] or "{}") or {})
    above = next((name for name in document if name.lower() == SOURCE), SOURCE)
    said |= json_lines.leaves(json_lines.read(row["resource_attributes"] or "{}") or {}, (above,))
    stated = json_lines.leaves(document)
    assert all(type(stated[path]) is type(value) and stated[path] == value for path, value in said.items())
    texts = {str(value) for name, value in row.items() if name not in ELSEWHERE}
    for path, value in stated.items():
        if path in said or value is None or path[-1].lower() in UNSAID:
            continue
        if path[-1].lower() in SPARE and row["format"] in COLLECTED:
            continue
        assert _is_in(value, texts, row), (path, value)


def _is_in(value: Any, texts: set[str], row: dict[str, Any]) -> bool:
    if isinstance(value, list):
        return any(json_lines.read(f'{{"value":{text}}}') == {"value": value} for text in texts)
    text = {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    if text in texts or text in ("", "-"):
        return True
    if row["type"] != "application" and _is_in_request(text, row):
        return True
    return _is_number_or_time(text, row)


def _is_in_request(text: str, row: dict[str, Any]) -> bool:
    """Return whether a text is what the columns of a request say: a request line, a target, a protocol or a method."""
    target = row["url_path"] + (f"?{row['url_query']}" if row["url_query"] else "")
    version = row["network_protocol_version"]
    lines = (f"{row['http_request_method']} {one} HTTP/{version}" for one in (target, f"{target}?"))
    return text in (*lines, target, f"{target}?", f"HTTP/{version}") or text.upper() == row["http_request_method"]


def _is_number_or_time(text: str, row: dict[str, Any]) -> bool:
    times = {row["time"], row["observed_time"]}
    if times & {iso_time(text), access_time(text), count_time(text)}:
        return True
    try:
        number = float(text)
    except ValueError:
        return False
    numbers = [one for one in row.values() if isinstance(one, int)]
    if row.get("response_time") in {int(Decimal(text) * factor) for factor in (1, 1_000, 1_000_000)}:
        return True
    return number in numbers or any(abs(time - number * 10**6) < 10**9 or abs(time // 10**9 - number) < 1 for time in times)


ENDS: Final[tuple[Members, ...]] = ([], [(SOURCE, [("pod_name", "p"), ("labels", [("app", "shop")])])])
"""What all lines of a shape end with."""

times = st.sampled_from(["2026-05-01T12:00:00Z", "2026-05-01T14:00:00.123456789+02:00"])


@st.composite
def documents(draw: st.DrawFn) -> Members:
    """Return members, most of them with a time."""
    found = draw(st.one_of(json_lines.members(), json_lines.known()))
    if draw(st.integers(0, 9)):
        found.insert(draw(st.integers(0, len(found))), (draw(st.sampled_from(["time", "@timestamp"])), draw(times)))
    return found


@settings(max_examples=100, deadline=None)
@given(documents().flatmap(json_lines.written), st.booleans())
def test_a_row_says_what_the_document_says(line: bytes, is_proxy: bool) -> None:  # noqa: FBT001
    """A document becomes one row with all of its members, or one dead letter with its bytes, or is skipped for a reason."""
    parsed = parse(segment_of([line]), is_proxy=is_proxy)
    rows, letters = rows_of(parsed), letters_of(parsed)
    assert len(rows) + len(letters) + parsed.skipped.total() == 1
    document = json_lines.read(line)
    assert document is not None
    for offset, row in rows.items():
        assert offset == START
        if row["format"] != "text":
            check_says_the_same(row, document)
    for at, (code, _, data) in letters.items():
        assert (at, data) == (START, line)
        assert code != "bad_json"


@st.composite
def polls(draw: st.DrawFn) -> list[bytes]:
    """Return lines of which many have the same shape, or the same members at their ends, and of which some are damaged."""
    lines: list[bytes] = []
    for _ in range(draw(st.integers(1, 3))):
        shape, end = json_lines.varied_members(draw(documents())), draw(st.sampled_from(ENDS))
        count = draw(st.sampled_from((1, 2, 5, 17)))
        lines += [draw(json_lines.written(draw(shape) + end, is_usual=draw(st.integers(0, 5)) > 0)) for _ in range(count)]
    for _ in range(draw(st.integers(0, 3))):
        number = draw(st.integers(0, len(lines) - 1))
        at = draw(st.integers(1, len(lines[number])))
        put = draw(st.sampled_from((b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"0", b" ", b"\xff", b"\0", b"nan")))
        lines[number] = lines[number][:at] + put + lines[number][at + draw(st.integers(0, 2)) :]
    return draw(st.permutations(lines)) if draw(st.booleans()) else lines


@settings(max_examples=30, deadline=None)
@given(polls(), st.booleans())
def test_lines_read_together_are_read_as_if_alone(lines: list[bytes], is_proxy: bool) -> None:  # noqa: FBT001
    """What a line becomes depends on no other line; what JSON it is not is a dead letter with its bytes."""
    together = parse(segment_of(lines), is_proxy=is_proxy)
    kept = LogKernel(LogOptions(), is_proxy_stream=is_proxy)
    rows, letters = rows_of(together), letters_of(together)
    skipped = 0
    for line, offset in zip(lines, offsets_of(lines), strict=True):
        alone = kept.extract(Arrived([segment_of([line], offset)], [OBSERVED]))
        assert rows_of(alone) == ({offset: rows.pop(offset)} if offset in rows else {})
        letter = {offset: letters.pop(offset)} if offset in letters else {}
        assert letters_of(alone) == letter
        skipped += alone.skipped.total()
        if json_lines.read_or_none(line) is None and line[:2] == b'{"':
            assert letter[offset][2] == line.rstrip(b"\r")
    assert (rows, letters) == ({}, {})
    assert skipped == together.skipped.total()
