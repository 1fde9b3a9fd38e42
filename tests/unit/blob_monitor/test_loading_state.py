"""How the monitor reads its state topic at a start: for as long as it takes, alive, and whatever stands in it."""

from __future__ import annotations

from libs.common.kafka.records import Outbound
from libs.common.process.health import Health
from libs.common.process.service import Stop
from libs.common.process.watch import Watch
from libs.common.settings.storage import NameLayout
from tests.monitor_world import PARTITIONS, TOPICS, World, metric

OBSERVED = "BlobObserved"


class Beats(Health):
    """Counts heartbeats."""

    count = 0

    def beat(self) -> None:
        """Count one."""
        self.count += 1


def test_a_long_state_topic_is_read_with_heartbeats_and_polls() -> None:
    """However long it takes, the process counts as alive and stays in its group."""
    world = World(layout=NameLayout.FLAT)
    for number in range(50):
        world.storage.write(f"{number}", 1)
    world.monitor().round()
    successor, health = world.monitor(), Beats()
    successor.monitor._watch = Watch(Stop(), health)
    successor.monitor.step()
    assert health.count > 50
    assert successor.session.polls > 50


def test_a_long_state_topic_is_left_when_the_process_is_to_end() -> None:
    """A stop does not wait until millions of records are read, or until Kafka answers."""
    world = World(layout=NameLayout.FLAT)
    for number in range(50):
        world.storage.write(f"{number}", 1)
    world.monitor().round()
    successor, stop = world.monitor(), Stop()
    said = len(world.broker.log)

    def end() -> None:
        if successor.session.polls == 10:
            stop.set()

    successor.session.on_poll = end
    successor.monitor.run(stop, Health())
    assert successor.session.polls == 10
    assert len(world.broker.log) == said


def test_partitions_that_come_while_the_state_topic_is_read_are_read_again() -> None:
    """What their former owner wrote last may stand behind the end that was asked for before."""
    world = World(layout=NameLayout.FLAT)
    world.storage.write("a", 1)
    former = world.monitor()
    former.round()
    end = len(world.broker.log)
    world.storage.write("b", 1)
    former.round()
    last = world.broker.log[end:]
    del world.broker.log[end:]
    successor = world.monitor()

    def take_over() -> None:
        if successor.session.polls == 2:  # the first one comes before the reading
            world.broker.log += last
            successor.session.give(range(PARTITIONS))

    successor.session.on_poll = take_over
    successor.round()
    assert world.broker.said() == [(OBSERVED, "a"), (OBSERVED, "b")]


def test_an_unreadable_state_record_is_counted_and_passed_over() -> None:
    """A broken or foreign record in the state topic costs nothing but a line and a count."""
    world = World(layout=NameLayout.FLAT)
    world.storage.write("a", 1)
    world.broker.log += [
        Outbound(TOPICS.blob_state, b"not an event", b"sub.dev/logs/a"),
        Outbound(TOPICS.blob_state, None, b"?"),
    ]
    before = metric("unreadable_state_total")
    world.monitor().round()
    assert metric("unreadable_state_total") == before + 2
    assert world.broker.said() == [(OBSERVED, "a")]
