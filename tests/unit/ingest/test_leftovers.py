"""What a closed blob ends with and no record can be made of: dead letters with its bytes, in parts that fit a message."""

from __future__ import annotations

import pytest

from libs.common.kafka.records import TopicPartition
from libs.common.messages.events import CheckpointStatus, Stream
from libs.common.settings.kafka import TopicSettings
from services.ingest.batch import Batch
from services.ingest.cutting.window import SizeLimits
from tests.blob_reading import Desk

LIMITS = SizeLimits(segment=400, line=300, record=20_000)
RECORD = b'{"time":0,"category":"FlowLogFlowEvent"}'
UNCLOSED = b',{"flows":["'
BEHIND_THE_TAIL = b"]"


def with_leftover(beginning: bytes, length: int) -> tuple[Desk, bytes]:
    """Read a closed blob of one record and `length` bytes that are none; return what was read and these bytes."""
    rest = (beginning + b"0123456789" * length)[:length]
    desk = Desk(limits=LIMITS, allowance=1_000)
    desk.container.commit(desk.name, [("A0", b'{"records":['), ("D0", RECORD), ("D1", rest)])
    desk.read(closed=True)
    assert desk.text == b'{"records":[' + RECORD
    return desk, rest


@pytest.mark.parametrize("length", [15, 300, 900, 19_000])
@pytest.mark.parametrize("beginning", [UNCLOSED, BEHIND_THE_TAIL])
def test_leftovers_are_carried_in_parts_that_fit_a_message(beginning: bytes, length: int) -> None:
    """A record without an end and what stands behind a tail are in dead letters no larger than a segment, nothing omitted."""
    desk, rest = with_leftover(beginning, length)
    assert desk.completions[-1].status is CheckpointStatus.COMPLETE
    assert {d.code for d in desk.dead_letters} == {"bad_json"}
    assert b"".join(d.data for d in desk.dead_letters) == rest
    assert max(len(d.data) for d in desk.dead_letters) <= LIMITS.segment
    assert not any("source-omitted-bytes" in dict(d.headers()) for d in desk.dead_letters)
    start = len(desk.text)
    assert [d.record_offset for d in desk.dead_letters] == list(range(start, start + length, LIMITS.segment))


def test_leftovers_that_are_too_long_to_look_at_are_named_and_counted() -> None:
    """What is behind the longest range that is read at once is named, with its first bytes and how many are omitted."""
    desk, rest = with_leftover(BEHIND_THE_TAIL, 70_000)
    *parts, named = desk.dead_letters
    kept = sum(len(d.data) for d in parts)
    assert kept >= LIMITS.record
    assert b"".join(d.data for d in desk.dead_letters) == rest[: kept + 256]
    assert named.record_offset == len(desk.text) + kept
    assert named.source == {"length": str(len(rest) - kept), "omitted-bytes": str(len(rest) - kept - 256)}


def test_dead_letters_weigh_in_a_transaction() -> None:
    """Their bytes close a transaction as those of segments do, so that many of them do not fill the memory."""
    desk = Desk(limits=LIMITS)
    desk.container.commit(desk.name, [("A0", b'{"records":['), ("D0", b'{"unclosed' * 1_000)])
    (step,) = desk.read(closed=True)
    batch = Batch(TopicSettings())
    batch.add(TopicPartition("t", 0), b"key", Stream.FLOW_LOGS, step)
    assert (step.bytes, batch.bytes) == (0, 12 + 10_000)
