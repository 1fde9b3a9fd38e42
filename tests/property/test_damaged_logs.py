"""Damaged lines among real ones: nothing raises, and no other line is read differently, however lines are cut."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Any, Final

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from libs.common.messages.segments import Segment, SegmentFormat
from libs.demo.applogs.fleet import Fleet, collect
from libs.demo.applogs.spec import LogSpec
from services.parser.extraction import Arrived, Extraction
from services.parser.logs.joining import Joining
from services.parser.logs.kernel import LogKernel
from services.parser.logs.options import LogOptions
from tests import log_text
from tests.property.test_log_lines import letters_of, rows_of

OBSERVED: Final = 1_777_636_800_000_000_000
ALONE: Final = LogOptions(joining=Joining(start=""))
"""Every line begins a record."""
OTHER_TEXT: Final = (
    b'10.0.0.1 - - [01/May/2026:12:00:00 +0000] "GET /a?b=c HTTP/1.1" 200 5 "-" "curl/8"',
    b"2026-05-01 12:00:00 SITE GET /a b=c 443 - 10.0.0.1 curl/8 - - shop.example 200 0 0 500 600 15",
    b'ts=2026-05-01T12:00:00Z level=info msg="order placed" order=4711',
    b"2026-05-01T12:00:01.5Z stdout F hello",
    b'{"time":"2026-05-01T12:00:00Z","level":"WARN","message":"a","order":{"id":4711,"lines":[1,2]}}',
    b'{"time":"2026-05-01T12:00:00Z","request":"GET /a HTTP/1.1","request_id":"r-1","duration_ms":7}',
    b"2026-05-01 12:00:00,123 ERROR it failed",
    b"no time at all",
)


@cache
def real_lines() -> tuple[tuple[bytes, ...], ...]:
    """Return some lines of each kind of pod, and lines in other formats."""
    logs = collect(Fleet(LogSpec(seed=7, pods=9, lines_per_minute=30, minutes=2)).appends())
    texts = [b"".join(log_text.members(packed)) for packed in logs.blobs.values()]
    found = [text[: text.rfind(b"\n") + 1].splitlines()[:40] for text in texts]
    return (*(tuple(lines) for lines in found if lines), OTHER_TEXT * 3)


lines_of_a_pod = st.integers(0, 63).map(lambda number: real_lines()[number % len(real_lines())])


def parse(lines: Sequence[bytes], options: LogOptions, *, is_proxy: bool, cuts: Sequence[int] = ()) -> Extraction:
    """Read lines, cut into segments behind the lines with these numbers, with a kernel that has seen nothing."""
    segments: list[Segment] = []
    start = offset = 0
    for end in [*sorted({cut for cut in cuts if 0 < cut < len(lines)}), len(lines)]:
        data = b"".join(line + b"\n" for line in lines[start:end])
        segments.append(Segment("a.b/logs/x", "g", offset, offset + len(data), len(segments), SegmentFormat.LINES, data))
        start, offset = end, offset + len(data)
    return LogKernel(options, is_proxy_stream=is_proxy).extract(Arrived(segments, [OBSERVED] * len(segments)))


def damaged(line: bytes, chance: Random) -> bytes:
    """Return a line in which bytes were replaced, removed or inserted, or of which an end is missing."""
    data = bytearray(line)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data)) if data else 0
        put = bytes([chance.choice((chance.randrange(256), *b'"\\{}[],: 0\r'))])
        kept = chance.choice((data[at + 1 :], data[at:], data[at + chance.randint(1, 9) :], bytearray()))
        data = data[:at] + (put if chance.random() < 0.7 else b"") + kept
    return bytes(data).replace(b"\n", b"")


@settings(max_examples=120, deadline=None)
@given(lines_of_a_pod, st.integers(0, 2**32), st.sets(st.integers(0, 39), min_size=1, max_size=4), st.booleans())
def test_neighbours_of_damaged_lines_are_unaffected(
    lines: tuple[bytes, ...],
    seed: int,
    numbers: set[int],
    is_proxy: bool,  # noqa: FBT001
) -> None:
    """All lines but the damaged ones are what they would be without the damage, and each damaged one has an outcome."""
    chance = Random(seed)
    bad = {number % len(lines) for number in numbers}
    # As long as before, so that offsets stay the same.
    changed = [_as_long(damaged(line, chance), len(line)) if at in bad else line for at, line in enumerate(lines)]
    assume(not any(line.startswith(b"#Fields") for line in changed))
    before, after = (parse(some, ALONE, is_proxy=is_proxy) for some in (lines, changed))
    offsets = [sum(len(line) + 1 for line in lines[:at]) for at in range(len(lines))]
    of_bad = {offsets[at] for at in bad}
    for found in (rows_of, letters_of):
        others = [{at: one for at, one in found(parsed).items() if at not in of_bad} for parsed in (before, after)]
        assert _without_near_times(others[0]) == _without_near_times(others[1])
    outcomes = len(rows_of(after)) + len(after.dead_letters) + after.skipped.total()
    assert outcomes == len(lines)
    for letter in after.dead_letters:
        assert changed[offsets.index(letter.record_offset or 0)].removesuffix(b"\r") == letter.data


def _as_long(line: bytes, size: int) -> bytes:
    return line[:size] if len(line) >= size else line + b"\r" * (size - len(line))


def _without_near_times(found: dict[Any, Any]) -> dict[Any, Any]:
    """Leave out the time of plain text without one: it is that of the line before, which may be damaged."""
    return {
        at: {**one, "time": None} if isinstance(one, dict) and one["format"] == "text" and one["body"][:1] != "2" else one
        for at, one in found.items()
    }


@settings(max_examples=60, deadline=None)
@given(lines_of_a_pod, st.lists(st.integers(0, 60), max_size=8), st.booleans())
def test_cuts_change_only_what_they_divide(
    lines: tuple[bytes, ...],
    cuts: list[int],
    is_proxy: bool,  # noqa: FBT001
) -> None:
    """However lines are cut into segments, they give the same rows, except for stack traces that a cut divides."""
    whole, parts = (
        _without_near_times(rows_of(parse(lines, LogOptions(), is_proxy=is_proxy, cuts=some))) for some in ((), cuts)
    )
    for offset, row in whole.items():
        own = [parts.pop(at) for at in sorted(parts) if max(first for first in whole if first <= at) == offset]
        if len(own) == 1:
            assert own[0] == row
        else:
            assert row["type"] == "application"
            assert "\n".join(one["body"] for one in own) == row["body"]
    assert not parts
