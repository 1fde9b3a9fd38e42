"""How fast Azure Resource Manager is asked."""

from __future__ import annotations

import pytest

from libs.common.azure.arm.buckets import MOST_BUCKETS, Buckets, Quota, Subject
from tests.clock import Clock

READS = Subject("s-1", Quota.READS)
GRAPH = Subject("", Quota.GRAPH)
PATIENCE = 1e9


def from_region(region: str, left: int | None = None) -> dict[str, str]:
    """Return the headers of an answer."""
    headers = {"x-ms-routing-request-id": f"{region}:20260501T120000Z:1"}
    return headers if left is None else headers | {"x-ms-ratelimit-remaining-subscription-reads": str(left)}


def taken_at_once(buckets: Buckets, subject: Subject) -> int:
    """Return how many calls may be made now, and make them."""
    taken = 0
    while buckets.reserve(subject, 0.0) <= 0:
        taken += 1
    return taken


def test_a_subscription_has_its_burst_and_its_rate() -> None:
    """As many calls as Azure documents, then as many a second; another subscription and kind of call are counted apart."""
    clock = Clock()
    buckets = Buckets(clock)
    assert taken_at_once(buckets, READS) == 250
    clock.now = 2.0
    assert taken_at_once(buckets, READS) == 50
    assert [taken_at_once(buckets, Subject("s-1", quota)) for quota in (Quota.WRITES, Quota.DELETES)] == [200, 200]
    assert taken_at_once(buckets, Subject("s-2", Quota.READS)) == 250
    clock.now = 1_000.0
    assert taken_at_once(buckets, READS) == 250


def test_calls_beyond_the_burst_have_turns() -> None:
    """Each is told when it may be made, so that they do not all come at the same time."""
    buckets = Buckets(Clock())
    taken_at_once(buckets, READS)
    assert [round(buckets.reserve(READS, PATIENCE), 3) for _ in range(3)] == [0.04, 0.08, 0.12]


def test_the_region_of_the_first_answer_does_not_renew_the_burst() -> None:
    """What was used before the region was known counts; another region has a bucket of its own."""
    buckets = Buckets(Clock())
    for _ in range(100):
        buckets.reserve(READS, PATIENCE)
    buckets.answered(READS, from_region("WESTEUROPE"))
    assert taken_at_once(buckets, READS) == 150
    buckets.answered(READS, from_region("NORTHEUROPE"))
    assert taken_at_once(buckets, READS) == 250


def test_what_azure_says_is_left_is_believed() -> None:
    """Others may use the same quota; a number that is none is ignored."""
    buckets = Buckets(Clock())
    buckets.answered(READS, from_region("WESTEUROPE", left=7))
    buckets.answered(READS, from_region("WESTEUROPE") | {"x-ms-ratelimit-remaining-subscription-reads": "many"})
    assert taken_at_once(buckets, READS) == 7


def test_a_refusal_pauses_and_slows_down_until_calls_succeed_again() -> None:
    """The pause is what Azure asks for and up to a tenth more; the rate halves, and recovers with successes."""
    clock = Clock()
    buckets = Buckets(clock)
    buckets.throttled(READS, from_region("WESTEUROPE"), 10.0)
    assert 10.0 <= buckets.reserve(READS, 0.0) <= 11.0
    clock.now = 11.0
    before = taken_at_once(buckets, READS)
    clock.now = 13.0
    assert before + taken_at_once(buckets, READS) in range(24, 39), "12.5 a second, from the end of the pause"
    for _ in range(100):
        buckets.answered(READS, from_region("WESTEUROPE"))
    clock.now = 15.0
    assert taken_at_once(buckets, READS) == 50


def test_resource_graph_pauses_when_its_quota_is_used_up() -> None:
    """Until it is reset, as the answer says."""
    clock = Clock()
    buckets = Buckets(clock)
    buckets.answered(GRAPH, {"x-ms-user-quota-remaining": "0", "x-ms-user-quota-resets-after": "00:00:05"})
    assert buckets.reserve(GRAPH, 0.0) == pytest.approx(5.0)
    clock.now = 5.0
    assert buckets.reserve(GRAPH, PATIENCE) < 1.0


def test_names_of_subscriptions_do_not_fill_the_memory() -> None:
    """The least recently used are forgotten."""
    buckets = Buckets(Clock())
    for number in range(MOST_BUCKETS + 100):
        subject = Subject(str(number), Quota.READS)
        buckets.reserve(subject, 0.0)
        buckets.answered(subject, from_region("WESTEUROPE"))
    assert len(buckets) == MOST_BUCKETS
