"""Topics that belong together, over a fake client: what waits, what goes on, what is said."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from libs.common.kafka.group import lag, partners
from libs.common.kafka.records import TopicPartition
from tests.consumer_world import World, message, shown_lag

P0 = TopicPartition("t", 0)


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world in which the topic belongs together with "u", with partitions 0 and 1 assigned."""
    world = World(with_partners=("u",))
    monkeypatch.setattr(lag, "make_client", lambda *_: world.admin)
    monkeypatch.setattr(partners, "make_client", lambda *_: world.admin)
    world.consumer.open()
    world.client.offsets = {0: 5, 1: 7}
    world.client.watermarks = {0: (0, 50), 1: (0, 70)}
    world.poll(("assign", [0, 1]))
    return world


def _look_again(world: World, **counts: int) -> None:
    world.now += partners.ASK_SECONDS
    world.poll()
    world.admin.tell_counts(**counts)
    world.poll()


def test_a_partition_without_a_partner_is_not_read_until_there_is_one(together: World) -> None:
    """The other one is; that it waits is said with both counts, once, and its lag is shown."""
    world = together
    with capture_logs() as logs:
        world.admin.tell_counts(t=2, u=1)
        world.poll()
        world.poll()
    assert world.listener.log == [("assigned", [0])]
    assert world.client.assigned[-1] == {0: 5}
    assert "t 2, u 1" in world.consumer.trouble()
    assert [line["event"] for line in logs] == [world.consumer.trouble()]
    world.admin.answer({0: 5, 1: 17})
    world.poll()
    assert (shown_lag(0), shown_lag(1)) == (0, 10)
    _look_again(world, t=2, u=2)
    assert world.listener.log == [("assigned", [0]), ("assigned", [1])]
    assert world.client.assigned[-1] == {0: 5, 1: 7}
    assert world.consumer.trouble() == ""


def test_a_partition_whose_partner_goes_away_is_left_and_taken_up_at_the_committed_offset(together: World) -> None:
    """Records of it that come meanwhile are dropped: nothing of them could be committed."""
    world = together
    world.admin.tell_counts(t=2, u=2)
    world.poll()
    assert world.listener.log == [("assigned", [0, 1])]
    _look_again(world, t=2, u=1)
    assert world.poll([message(1, 7), message(0, 5)]) == [5]
    assert world.consumer.readable() == {P0}
    _look_again(world, t=2, u=3)
    assert world.listener.log[-1] == ("rewound", [1])
    assert world.client.assigned[-1] == {0: 6, 1: 7}


@pytest.mark.parametrize("counts", [{}, {"t": 2}, {"t": 2, "u": 5}], ids=["nothing", "not of the partner", "more"])
def test_a_partner_that_is_not_told_of_or_has_more_keeps_nothing_from_being_read(
    together: World, counts: dict[str, int]
) -> None:
    """Then everything is read, and there is no trouble."""
    world = together
    world.admin.tell_counts(**counts)
    world.poll()
    assert world.listener.log == [("assigned", [0, 1])]
    assert world.consumer.trouble() == ""
