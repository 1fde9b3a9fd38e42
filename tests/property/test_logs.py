"""Logs of any fleet become the rows that its truth states, however they are cut; any bytes give rows or dead letters."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.messages.blobs import BlobId
from libs.common.messages.labels import pack_labels
from libs.common.messages.segments import Segment, SegmentFormat
from libs.common.settings.name_pattern import kubernetes_names
from libs.demo.applogs.fleet import Fleet, collect
from libs.demo.applogs.spec import LogSpec
from libs.demo.applogs.truth import LineKind
from services.parser.extraction import Arrived, Extraction
from services.parser.logs.kernel import LogKernel
from services.parser.logs.options import LogOptions
from tests import log_text
from tests.log_estate import assert_rows_of_lines

OBSERVED: Final = 1_777_636_800_000_000_000
NOW: Final = pa.scalar(OBSERVED, pa.timestamp("ns", tz="UTC")).as_py()
PROXY: Final = "apache-proxy"

specs = st.builds(
    LogSpec,
    seed=st.integers(0, 2**63 - 1),
    pods=st.integers(1, 12),
    lines_per_minute=st.floats(5, 60),
    start=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds it
    minutes=st.integers(1, 3),
)


def segments_of(blob: BlobId, text: bytes, service: str | None, cuts: list[int]) -> list[Segment]:
    """Return complete lines of a blob as segments, cut behind the lines with these numbers."""
    lines = text[: text.rfind(b"\n") + 1].splitlines(keepends=True)
    parts = kubernetes_names("kubernetes/").parts(blob.name) or {}
    labels = pack_labels({**({"service": service} if service else {}), **parts})
    found: list[Segment] = []
    start = offset = 0
    for end in [*sorted({min(cut, len(lines)) for cut in cuts} - {0, len(lines)}), len(lines)]:
        data = b"".join(lines[start:end])
        form = SegmentFormat.LINES
        found.append(Segment(str(blob), "g", offset, offset + len(data), len(found), form, data, labels=labels))
        start, offset = end, offset + len(data)
    return [one for one in found if one.data]


def parse(segments: list[Segment], *, is_proxy: bool) -> Extraction:
    """Read segments with a kernel that has seen nothing."""
    return LogKernel(LogOptions(), is_proxy_stream=is_proxy).extract(Arrived(segments, [OBSERVED] * len(segments)))


@settings(max_examples=15, deadline=None)
@given(specs, st.lists(st.integers(0, 60), max_size=6))
def test_rows_are_what_the_truth_states(spec: LogSpec, cuts: list[int]) -> None:
    """Each line is in a row of the type that the truth states, with position and fields, or is skipped for its reason."""
    logs = collect(Fleet(spec).appends())
    truth = logs.truth.to_pylist()
    for blob, packed in logs.blobs.items():
        stated = [row for row in truth if row["blob"] == str(blob)]
        text = b"".join(log_text.members(packed))
        service = next((row["service"] for row in stated), None)
        parsed = parse(segments_of(blob, text, service, cuts), is_proxy=any(row["row_type"] == "proxy" for row in stated))
        assert parsed.dead_letters == []
        expected = Counter(row["skipped"] for row in stated if row["skipped"] is not None)
        assert parsed.skipped == expected
        _compare(parsed, stated)


def _compare(parsed: Extraction, stated: list[dict[str, Any]]) -> None:
    """Compare rows with the truth about their lines; of a line that has one time only, it is that of the record."""
    for kind in LineKind:
        found = [row for table in parsed.tables if table.row_type.name == kind for row in table.batch.to_pylist()]
        lines = [row for row in stated if row["row_type"] == kind]
        assert_rows_of_lines(found, lines)
        observed = {row["line_offset"]: row["observed_time"] for row in lines}
        assert all(row["observed_time"] in {NOW, observed[row["line_offset"]]} for row in found)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)), max_size=12),
    st.sampled_from(["proxy", "application"]),
)
def test_any_bytes_give_rows_letters_or_skips(parts: list[bytes], stream: str) -> None:
    """Nothing raises, and every line is counted once."""
    data = b"".join(part.replace(b"\n", b"") + b"\n" for part in parts)
    if not data:
        return
    segment = Segment("a.b/logs/x", "g", 5, 5 + len(data), 0, SegmentFormat.LINES, data)
    parsed = parse([segment], is_proxy=stream == "proxy")
    assert parsed.records + sum(letter.record_offset is not None for letter in parsed.dead_letters) == data.count(b"\n")
    offsets = {0} | {at + 1 for at, byte in enumerate(data) if byte == 10}
    rows = [row for table in parsed.tables for row in table.batch.to_pylist()]
    assert all(row["line_offset"] - 5 in offsets for row in rows)
    for row in rows:
        assert row["attributes"] is None or isinstance(json.loads(row["attributes"]), dict)
