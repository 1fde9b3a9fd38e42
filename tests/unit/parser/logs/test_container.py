"""Lines that containers wrote: as JSON of a collector, or as the kubelet writes them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from services.parser.logs.joining import Joining
from services.parser.logs.options import LogOptions
from tests.log_rows import OBSERVED, line_of, outcomes, parse, rows


def line(log: str, pod: str = "zookeeper-0", **changes: Any) -> str:
    """Return a line of Fluent Bit."""
    kubernetes = {"pod_name": pod, "namespace_name": "default", "container_name": "zookeeper", "annotations": {"a": "b"}}
    return line_of(
        {"@timestamp": "2026-05-01T12:00:01.5Z", "stream": "stderr", "log": f"{log}\n", "kubernetes": kubernetes} | changes
    )


def test_a_line() -> None:
    """The level is the first that is named in capitals, the logger is the pod, and the line end is left out."""
    assert rows(
        parse(line("2026-05-01 [main] WARN peer is gone, no ERROR"), labels='{"service":"zookeeper","region":"eu"}')
    ) == [
        {
            "type": "application",
            "time": "2026-05-01T12:00:01.500000000Z",
            "observed_time": "2026-05-01T12:00:01.500000000Z",
            "severity_text": "WARN",
            "severity_number": 13,
            "body": "2026-05-01 [main] WARN peer is gone, no ERROR",
            "logger": "zookeeper-0",
            "stream": "stderr",
            "format": "container",
            "service": "zookeeper",
            "namespace": "default",
            "pod": "zookeeper-0",
            "container": "zookeeper",
            "resource_attributes": '{"annotations":{"a":"b"},"region":"eu"}',
            "line_offset": 4096,
        }
    ]


@pytest.mark.parametrize(
    ("text", "level", "number"),
    [
        ("started", "INFO", 9),
        ("[TRACE] x", "TRACE", 1),
        ("DEBUG: x", "DEBUG", 5),
        ("a WARNING", "WARNING", 13),
        ("ERRORS happen, FATALITY, info", "INFO", 9),
        ("FATAL", "FATAL", 21),
    ],
)
def test_levels(text: str, level: str, number: int) -> None:
    """Whole words in capitals are levels; a line without one is information."""
    (row,) = rows(parse(line(text)))
    assert (row["severity_text"], row["severity_number"]) == (level, number)


def test_stack_traces_are_joined_for_each_container() -> None:
    """Lines of a trace belong to the line before of the same container, whatever stands between."""
    lines = [
        line("ERROR failed"), line("other", pod="b-1"), line("\tat a.B.c(B.java:1)"), line("Caused by: x"), line("done"),
    ]  # fmt: skip
    found = rows(parse(*lines))
    assert [(row["pod"], row["body"], row["severity_text"]) for row in found] == [
        ("zookeeper-0", "ERROR failed\n\tat a.B.c(B.java:1)\nCaused by: x", "ERROR"),
        ("b-1", "other", "INFO"),
        ("zookeeper-0", "done", "INFO"),
    ]


def test_joining_is_bounded() -> None:
    """A record has at most so many lines and bytes; the rest begins another."""
    lines = [line("first"), *(line(f"\t{number}") for number in range(5))]
    few = rows(parse(*lines, options=LogOptions(joining=Joining(lines=3))))
    assert [row["body"].count("\n") + 1 for row in few] == [3, 3]
    small = rows(parse(*lines, options=LogOptions(joining=Joining(bytes=9))))
    assert [row["body"] for row in small] == ["first\n\t0", "\t1\n\t2\n\t3", "\t4"]


def test_the_beginning_of_records_can_be_configured() -> None:
    """With a pattern, whatever does not match belongs to the line before."""
    options = LogOptions(joining=Joining(start=r"^\d{2}:"))
    found = rows(parse(line("12:00 a"), line("b"), line("\tc"), line("12:01 d"), options=options))
    assert [row["body"] for row in found] == ["12:00 a\nb\n\tc", "12:01 d"]


def test_parts_of_a_cut_line_are_joined() -> None:
    """What the runtime cut is one line again, without a line feed."""
    parts = [line("half", _p="P"), line(" done", _p="F"), line("next", _p="F")]
    assert [row["body"] for row in rows(parse(*parts))] == ["half done", "next"]


def test_blank_lines_are_counted() -> None:
    """A container's empty line is no row."""
    assert outcomes(parse(line(""), line("  "))) == [("skipped", "blank_message")] * 2


def test_lines_of_the_kubelet() -> None:
    """Time, stream and text are read, and parts joined; the pod is known from the labels."""
    found = parse(
        "2026-05-01T12:00:01.123456789Z stdout P half",
        "2026-05-01T12:00:01.123456790Z stdout F  done ERROR",
        "2026-05-01T14:00:02+02:00 stdout F \tat x",
        labels='{"pod":"api-0"}',
    )
    same = {"type": "application", "observed_time": OBSERVED, "format": "container", "pod": "api-0", "logger": "api-0"}
    assert rows(found) == [
        {
            **same,
            "time": "2026-05-01T12:00:01.123456789Z",
            "severity_text": "ERROR",
            "severity_number": 17,
            "body": "half done ERROR\n\tat x",
            "stream": "stdout",
            "line_offset": 4096,
        }
    ]


def test_a_pattern_of_the_beginning_is_re2() -> None:
    """Patterns are in the syntax of RE2, which is what the setting says."""
    with pytest.raises(Exception, match=re.escape("invalid perl operator: (?=")):
        parse(line("a"), options=LogOptions(joining=Joining(start="(?=a)")))
