"""Lines of raw segments, and filters on them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.kafka.records import Inbound
from libs.common.messages.labels import pack_labels
from libs.common.messages.segments import Segment, SegmentFormat
from services.cli.explore.analysis import Analysis
from services.cli.explore.lines import Line, blob_filter, field_filter, label_filter, lines_of, text_filter

BLOB = "cp2.P1/logs/kubernetes/20260501.api-1_default_platform-aa.gz"
LABELS = {"service": "api", "environment": "P1"}


def message(data: bytes, start: int = 100) -> Inbound:
    """Return a message with a segment."""
    segment = Segment(BLOB, "g", start, start + len(data), 0, SegmentFormat.LINES, data, labels=pack_labels(LABELS))
    return Inbound("Raw.ApplicationLogs", 0, 7, 0, BLOB.encode(), data, segment.headers())


def line(text: str) -> Line:
    """Return a line."""
    return next(iter(lines_of(message(text.encode() + b"\n"))))


@given(st.lists(st.binary(max_size=20).filter(lambda data: b"\n" not in data), min_size=1), st.sampled_from([b"", b"\n"]))
def test_every_byte_belongs_to_one_line_that_knows_its_offset(parts: list[bytes], end: bytes) -> None:
    """Whatever the bytes are; a lone carriage return ends no line."""
    data = b"\n".join(parts) + end
    found = list(lines_of(message(data, start=1_000)))
    assert [data[one.offset - 1_000 :].split(b"\n")[0] for one in found] == data.removesuffix(b"\n").split(b"\n")[: len(found)]
    assert len(found) == data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


@pytest.mark.parametrize(
    ("condition", "meets"),
    [
        ("logs.level=ERROR", True),
        ("logs.level=WARN", False),
        ("logs.level!=WARN", True),
        ("logs.other!=WARN", True),
        ("logs.level~^ERR", True),
        ("logs.level~^RR", False),
        ("logs.count=3", True),
        ("logs.ok=true", True),
        ("logs.url=a=b", True),
        ("logs=x", False),
        ("level=ERROR", False),
    ],
)
def test_a_field_is_compared_as_text(condition: str, *, meets: bool) -> None:
    """The first sign divides path and value."""
    text = json.dumps({"logs": {"level": "ERROR", "count": 3, "ok": True, "url": "a=b"}})
    assert field_filter(condition)(line(text)) is meets


def test_lines_that_are_no_objects_have_no_fields() -> None:
    """They are no error either."""
    assert not any(field_filter("a=1")(line(text)) for text in ("plain", '{"a":', "[1]", "{" * 5_000))


@pytest.mark.parametrize("condition", ["level", "=x", "__import__('os').system('x')"])
def test_what_is_no_condition_is_refused(condition: str) -> None:
    """Nothing is ever run."""
    with pytest.raises(ValueError, match="PATH=VALUE"):
        field_filter(condition)


def test_other_filters_look_at_blob_labels_and_text() -> None:
    """A glob, an exact value and a regular expression, which must be one."""
    one = line("a NullPointerException")
    assert blob_filter("cp2.P1/logs/*api*")(one)
    assert not blob_filter("cp2.D1/*")(one)
    assert label_filter("service", "api")(one)
    assert not label_filter("subscription", "api")(one)
    assert text_filter("Null.*Ex")(one)
    with pytest.raises(ValueError, match="RE2"):
        text_filter("(")


def test_an_analysis_counts_services_levels_and_fields() -> None:
    """The most frequent of each."""
    sums = Analysis()
    for text in ('{"logs":{"level":"INFO","n":1}}', '{"logs":{"level":"ERROR"},"time":"x"}', "plain"):
        sums.add(line(text))
    values = sums.values()
    assert (values["lines"], values["json_objects"], values["longest"]) == (3, 2, 37)
    assert values["levels"] == {"INFO": 1, "ERROR": 1}
    assert values["fields"] == {"logs.level": 2, "logs.n": 1, "time": 1}
    assert values["services"] == {"api": 3}
    assert next(sums.text()).startswith("3 lines, ")
