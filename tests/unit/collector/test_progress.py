"""What a collector knows of requests: by partition, in little memory, and never half of a partition."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Collection, Sequence

import pytest

from libs.common.azure.arm.pages import ListCursor
from libs.common.errors import CodecError, ServerUnreachable
from libs.common.kafka.records import Inbound
from services.collector.progress import REMEMBERED_HOURS, CallPlace, KnownRequests, RequestProgress, encode_progress
from tests.clock import Clock

OVER = encode_progress(RequestProgress(1, (0,)))
HALF = RequestProgress(2, (0,), {1: CallPlace(ListCursor(pages=3, received=7))})

AGES = {b"old": 3_600.0 * (REMEMBERED_HOURS + 1), b"long ago": 1e9, b"young": 3_600.0 * (REMEMBERED_HOURS - 3)}


class Table:
    """Passes records of the partitions that are wanted; fails after some, if it is told to."""

    def __init__(self, apply: Callable[[Inbound], None], records: Sequence[Inbound], fails_after: int | None) -> None:
        self._apply = apply
        self._records = records
        self._fails_after = fails_after
        self._wanted: Collection[int] = ()

    def open(self, partitions: Collection[int]) -> None:
        """Choose."""
        self._wanted = partitions

    def catch_up(self, timeout: float, between: Callable[[], None]) -> None:
        """Pass records."""
        assert timeout == 5.0
        for number, record in enumerate(self._records):
            between()
            if number == self._fails_after:
                raise ServerUnreachable("gone")
            if record.partition in self._wanted:
                self._apply(record)

    def close(self) -> None:
        """Nothing to close."""


def record(partition: int, key: bytes | None, value: bytes | None, seconds: float = 0.0) -> Inbound:
    """Return a record of the state."""
    return Inbound("state", partition, 0, int(1_000 * seconds), key, value, ())


def known_from(*records: Inbound, fails_after: int | None = None) -> KnownRequests:
    """Return what is known from records, once it is loaded."""
    return KnownRequests(lambda apply: Table(apply, records, fails_after), 5.0)


def test_the_last_record_of_a_request_counts() -> None:
    """One that is over is only known to be; one that is not has its progress; one whose record was deleted is unknown."""
    known = known_from(
        record(0, b"a", encode_progress(HALF)), record(0, b"b", encode_progress(HALF)), record(0, b"c", OVER),
        record(0, b"a", OVER), record(0, b"c", None), record(0, None, OVER), record(0, b"d", encode_progress(HALF)),
        record(0, b"d", None), record(0, b"e", b"?"),
    )  # fmt: skip
    known.load([0], lambda: None)
    assert [known.has(0, key) for key in (b"a", b"b", b"c", b"d", b"e")] == [True, True, False, False, True]
    found = known.get(0, b"a")
    assert found is not None
    assert found.is_over
    assert (known.get(0, b"b"), known.get(0, b"c"), len(known)) == (HALF, None, 3)
    with pytest.raises(CodecError):
        known.get(0, b"e")
    known.end(0, b"b")
    assert known.get(0, b"b") == found


def test_partitions_are_known_one_by_one_and_forgotten_whole() -> None:
    """Also when loading fails in the middle: then nothing of them is known, rather than half."""
    records = [record(0, b"a", OVER), record(1, b"a", encode_progress(HALF)), record(1, b"b", OVER), record(2, b"c", OVER)]
    known = known_from(*records)
    known.load([0, 1], lambda: None)
    assert (known.get(1, b"a"), known.has(0, b"b"), known.has(2, b"c"), len(known)) == (HALF, False, False, 3)
    known.forget([1])
    assert (known.has(1, b"a"), known.has(1, b"b"), known.has(0, b"a"), len(known)) == (False, False, True, 1)
    failing = known_from(*records, fails_after=3)
    with pytest.raises(ServerUnreachable):
        failing.load([0, 1], lambda: None)
    assert len(failing) == 0


def test_ids_are_forgotten_when_the_topic_forgets_them() -> None:
    """A month after their request was over, wherever that was read; those that are not over stay."""
    clock = Clock(1_800_000_000.0)
    month, hour = 3_600 * REMEMBERED_HOURS, 3_600
    records = [record(0, key, OVER, clock() - age) for key, age in AGES.items()]
    known = KnownRequests(lambda apply: Table(apply, [*records, record(0, b"open", encode_progress(HALF))], None), 5.0, clock)
    known.load([0], lambda: None)
    known.end(0, b"now")
    assert len(known) == 5, "they are looked through once an hour"
    clock.now += hour
    known.end(0, b"next")
    assert {key for key in (*AGES, b"open", b"now", b"next") if known.has(0, key)} == {b"young", b"open", b"now", b"next"}
    clock.now += month + hour
    known.end(0, b"last")
    assert {key for key in (*AGES, b"open", b"now", b"next") if known.has(0, key)} == {b"open"}


def test_a_request_that_is_over_takes_little_memory() -> None:
    """Some twenty bytes, since there may be a month of them."""
    known = known_from(*(record(number % 4, b"request-%d" % number, OVER) for number in range(20_000)))
    tracemalloc.start()
    try:
        known.load(range(4), lambda: None)
        assert len(known) == 20_000
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / 20_000 < 40
