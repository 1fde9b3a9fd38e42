"""The rotation of hosts, without requests."""

from __future__ import annotations

from libs.common.http.hosts import Hosts
from tests.clock import Clock

A, B, C = "http://a", "http://b", "http://c"


def test_hosts_take_turns() -> None:
    """Every host is first in its turn and all are tried."""
    hosts = Hosts((A, B, C), Clock())
    assert [hosts.candidates() for _ in range(4)] == [[A, B, C], [B, C, A], [C, A, B], [A, B, C]]


def test_a_failed_host_is_left_alone_for_longer_each_time() -> None:
    """A host that fails is passed over for 1, 2, 4 ... at most 60 seconds, and well again once it works."""
    clock = Clock()
    hosts = Hosts((A, B), clock)
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        hosts.failed(A)
        clock.now += pause - 0.5
        assert hosts.candidates() == [B]
        clock.now += 0.5
        assert A in hosts.candidates()
    hosts.worked(A)
    hosts.failed(A)
    clock.now += 1
    assert A in hosts.candidates()


def test_a_host_may_fail_for_days() -> None:
    """However often it has failed, it is asked again after a minute."""
    clock = Clock()
    hosts = Hosts((A,), clock)
    for _ in range(2_000):
        hosts.failed(A)
        clock.now += hosts.pause()
    assert hosts.pause() == 1.0
    hosts.failed(A)
    assert hosts.pause() == 60.0


def test_when_all_hosts_failed_the_first_to_be_back_is_tried() -> None:
    """With every host out, one is asked all the same, and the wait is until the first is back."""
    clock = Clock()
    hosts = Hosts((A, B), clock)
    hosts.failed(A)
    hosts.failed(A)
    hosts.failed(B)
    assert hosts.candidates() == [B]
    hosts.failed(B)
    hosts.failed(B)
    assert hosts.candidates() == [A]
    assert hosts.pause() == 2.0
