"""When sources are asked."""

from __future__ import annotations

import pytest

from services.recorder.schedule import PollSchedule


def test_turns_are_an_interval_apart_however_long_they_take() -> None:
    """A turn that takes less than the interval moves none of those after it; one that takes longer makes some be missed."""
    schedule = PollSchedule(10.0, 0.0, lambda: 0.5)
    schedule.begin(100.0, None)
    assert schedule.due == 100.0
    assert (schedule.succeeded(103.0), schedule.due) == (0, 110.0)
    assert (schedule.succeeded(110.0), schedule.due) == (0, 120.0)
    assert (schedule.succeeded(145.0), schedule.due) == (2, 150.0)


@pytest.mark.parametrize(("since_last", "wait"), [(None, 0.0), (4.0, 6.0), (3_600.0, 0.0), (-5.0, 10.0)])
def test_a_source_that_is_taken_over_keeps_its_pace(since_last: float | None, wait: float) -> None:
    """It is asked an interval after its last answer, at once if that is long ago, and never later if the clock was set back."""
    schedule = PollSchedule(10.0, 0.0, lambda: 0.5)
    schedule.begin(100.0, since_last)
    assert schedule.due == 100.0 + wait


def test_a_source_that_fails_is_left_alone_for_longer_each_time() -> None:
    """It waits for 1, 2, 4 ... at most 60 seconds, half of it at random, or as long as it demands, and recovers at once."""
    schedule = PollSchedule(0.5, 0.0, lambda: 0.0)
    schedule.begin(0.0, None)
    assert [schedule.failed(0.0) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert schedule.failed(0.0, demanded=90.0) == 90.0
    assert schedule.succeeded(200.0) == 219
    assert schedule.due == 200.0
    half = PollSchedule(0.5, 0.0, lambda: 1.0)
    half.begin(0.0, None)
    assert [half.failed(0.0) for _ in range(3)] == [0.5, 1.0, 2.0]


def test_jitter_delays_turns_and_does_not_add_up() -> None:
    """Each turn is late by a part of the jitter of its own."""
    drawn = iter([0.0, 1.0, 0.25])
    schedule = PollSchedule(10.0, 4.0, lambda: next(drawn))
    schedule.begin(0.0, None)
    found = [schedule.due]
    for now in (1.0, 15.0):
        schedule.succeeded(now)
        found.append(schedule.due)
    assert found == [0.0, 14.0, 21.0]
