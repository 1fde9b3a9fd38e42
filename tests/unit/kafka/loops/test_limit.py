"""The limit on dead letters."""

from __future__ import annotations

import pytest

from libs.common.errors import DeadLetterLimit
from libs.common.kafka.loops.limit import CONSECUTIVE, SMALLEST_SAMPLE_OF_SINKS, RejectionLimit


def test_a_share_of_one_lets_everything_pass() -> None:
    """Who allows every record to be rejected is not stopped; below that a long run stops, and the way past is told."""
    RejectionLimit(1.0).check(10 * CONSECUTIVE, 10 * CONSECUTIVE)
    with pytest.raises(DeadLetterLimit, match=r"in a row .* set dead_letter_limit to 1 .* docs/how-to/dead-letters\.md"):
        RejectionLimit(0.99).check(CONSECUTIVE, CONSECUTIVE)


def test_a_run_that_no_setting_allows_names_none() -> None:
    """A run of crashes of our own code stops whatever the share, and says nothing of a setting that would not help."""
    with pytest.raises(DeadLetterLimit) as stopped:
        RejectionLimit(1.0, consecutive=20).check(20, 20)
    assert "dead_letter_limit" not in str(stopped.value)


def test_judging_does_not_count() -> None:
    """A batch that was judged and comes again is judged as if it had never come; once counted it weighs on the next."""
    limit = RejectionLimit(0.5)
    limit.check(100, 0)
    for _ in range(5):
        limit.judge(60, 60)
    limit.count(60, 60)
    with pytest.raises(DeadLetterLimit, match="120 of the last 220"):
        limit.judge(60, 60)


def test_small_batches_add_up() -> None:
    """Rejections that come a few at a time stop the service as soon as there are enough of them to judge."""
    limit = RejectionLimit(0.5, smallest=SMALLEST_SAMPLE_OF_SINKS)
    for _ in range(6):
        limit.check(3, 3)
    with pytest.raises(DeadLetterLimit, match="21 of the last 21"):
        limit.check(3, 3)
