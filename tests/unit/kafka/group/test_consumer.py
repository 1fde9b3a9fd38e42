"""The group consumer over a fake client: placing, events, errors."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as ClientPartition
from structlog.testing import capture_logs

from libs.common.errors import BlobtideError, Retry, ServerUnreachable
from libs.common.kafka.group import lag
from libs.common.kafka.group.lag import ASK_SECONDS
from libs.common.kafka.group.membership import Use
from libs.common.kafka.records import TopicPartition
from libs.common.settings.kafka import KafkaSettings
from tests.consumer_world import World, message, shown_lag
from tests.metric_values import since_now

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a consumer that has subscribed, over a fake client."""
    world = World()
    monkeypatch.setattr(lag, "make_client", lambda *_: world.admin)
    world.consumer.open()
    return world


def _error(code: int, partition: int = 0) -> Message:
    return Message(topic="t", partition=partition, offset=0, error=KafkaError(code, "why"))


def test_partitions_start_at_the_committed_offset_or_at_the_beginning(world: World) -> None:
    """A new partition delivers nothing before it is placed: at its committed offset, without one at the first record."""
    world.client.offsets = {0: 40}
    world.client.watermarks = {1: (7, 100)}
    assert world.poll(("assign", [0, 1]), [message(0, 0), message(1, 0)]) == []
    assert world.client.assigned == [{}]
    with capture_logs() as logs:
        assert world.poll([message(0, 40), message(1, 7)]) == [40, 7]
    assert [(line["partition"], line["first"]) for line in logs] == [(1, 7)]
    assert world.client.assigned == [{}, {0: 40, 1: 7}]
    assert world.listener.log == [("assigned", [0, 1])]
    assert world.client.paused == set()


@pytest.mark.parametrize(("committed", "lost"), [(3, 7.0), (9, 1.0), (101, 0.0)])
def test_an_offset_outside_the_topic_is_counted_and_goes_on_at_the_earliest(world: World, committed: int, lost: float) -> None:
    """Records deleted before they were read are counted exactly; reading goes on at the earliest one, never silently."""
    gap = since_now("blobtide_kafka_offset_gap_records_total", topic="t")
    world.client.offsets, world.client.watermarks = {0: committed}, {0: (10, 100)}
    world.poll(("assign", [0]))
    world.poll()
    assert world.client.assigned[-1] == {0: 10}
    assert gap() == lost


def test_records_of_partitions_that_left_are_dropped(world: World) -> None:
    """One poll may bring a revocation, a new assignment and records of both: only what is placed is delivered."""
    world.poll(("assign", [0, 1]))
    world.poll()
    assert world.poll(("revoke", [0, 1]), ("assign", [1]), [message(0, 5), message(1, 5)]) == []
    assert world.poll([message(0, 6), message(1, 0)]) == [0]
    assert world.listener.log == [("assigned", [0, 1]), ("revoked", [0, 1]), ("assigned", [1])]
    assert world.consumer.owned() == {P1}


def test_a_rewind_goes_back_to_the_committed_offsets(world: World) -> None:
    """After a rewind nothing is delivered until every partition is back at its committed offset; then the listener knows."""
    rewinds = since_now("blobtide_kafka_rewinds_total")
    world.client.offsets = {0: 5}
    world.poll(("assign", [0]))
    assert world.poll([message(0, 5)]) == [5]
    world.consumer.rewind()
    assert world.consumer.readable() == frozenset()
    assert world.poll([message(0, 5)]) == [5]
    assert world.client.assigned == [{}, {0: 5}, {0: 5}]
    assert world.listener.log[-1] == ("rewound", [0])
    assert rewinds() == 1


def test_while_kafka_does_not_tell_offsets_nothing_is_delivered(world: World) -> None:
    """A broker outage at assignment is waited out: no record, no exception, no listener call; then it goes on."""
    world.client.committed_error = KafkaError(KafkaError._TIMED_OUT, retriable=True)
    world.poll(("assign", [0]))
    assert world.poll([message(0, 0)]) == []
    assert world.listener.log == []
    world.client.committed_error = None
    assert world.poll([message(0, 0)]) == [0]


def test_a_partition_whose_leader_is_away_holds_up_no_other(world: World) -> None:
    """Partitions of which Kafka tells nothing wait; the others are placed soon, and each poll waits for one only."""
    asked: list[int] = []
    away = {0, 2}

    def watermarks(partition: ClientPartition, timeout: float = 0) -> tuple[int, int]:
        asked.append(partition.partition)
        if partition.partition in away:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, retriable=True))
        return (0, 100)

    world.client.get_watermark_offsets = watermarks  # type: ignore[method-assign]
    world.poll(("assign", [0, 1, 2, 3]))
    for _ in range(4):
        asked.clear()
        world.poll()
        assert len(away.intersection(asked)) <= 1
    assert sorted(p.partition for p in world.consumer.readable()) == [1, 3]
    away.clear()
    world.poll()
    assert sorted(p.partition for p in world.consumer.readable()) == [0, 1, 2, 3]
    assert sorted(number for _, numbers in world.listener.log for number in numbers) == [0, 1, 2, 3]


def test_a_partition_that_is_placed_later_leaves_the_others_where_they_are(world: World) -> None:
    """The client gets absolute positions only; what it reads already goes on behind the last record that was delivered."""
    world.client.offsets = {0: 5, 1: 50}

    def watermarks(partition: ClientPartition, timeout: float = 0) -> tuple[int, int]:
        if partition.partition == 1:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, retriable=True))
        return (0, 100)

    world.client.get_watermark_offsets = watermarks  # type: ignore[method-assign]
    world.poll(("assign", [0, 1]))
    assert world.poll([message(0, 5), message(0, 8), message(1, 0)]) == [5, 8]
    del world.client.get_watermark_offsets
    assert world.poll([message(0, 9), message(1, 50)]) == [9, 50]
    assert world.client.assigned == [{}, {0: 5}, {0: 9, 1: 50}]
    assert world.listener.log == [("assigned", [0]), ("assigned", [1])]


def test_a_client_that_cannot_set_positions_now_is_asked_again(world: World) -> None:
    """Nothing counts as placed before the client has its positions."""
    world.poll(("assign", [0]))
    world.client.assign_error = KafkaError(KafkaError._TIMED_OUT, retriable=True)
    assert world.poll([message(0, 0)]) == []
    assert world.listener.log == []
    world.client.assign_error = None
    assert world.poll([message(0, 0)]) == [0]


def test_a_client_that_goes_back_delivers_nothing_twice(world: World) -> None:
    """Records below the next one expected are dropped and named in the log; then the group is joined again."""
    rejoins = since_now("blobtide_kafka_rejoins_total")
    world.client.offsets = {0: 5}
    world.poll(("assign", [0]))
    with capture_logs() as logs:
        assert world.poll([message(0, 5), message(0, 6), message(0, 0), message(0, 1), message(0, 6)]) == [5, 6]
    assert [(line["offset"], line["expected"]) for line in logs] == [(0, 7)]
    world.poll()
    assert world.made == 2
    assert world.clients[0].closed
    assert world.listener.log == [("assigned", [0]), ("revoked", [0])]
    assert rejoins() == 1


def test_what_is_delivered_counts_by_topic(world: World) -> None:
    """Each record that is handed over counts, with the bytes of its value; what is dropped does not."""
    count, size = (since_now(f"blobtide_kafka_{name}_total", topic="t") for name in ("records_read", "read_bytes"))
    world.poll(("assign", [0]))
    world.poll([message(0, 0), message(0, 1), message(1, 0)])
    assert (count(), size()) == (2, 2)


def test_a_pause_holds_for_partitions_that_arrive_later(world: World) -> None:
    """Paused stays paused over a rebalance, until resume."""
    world.poll(("assign", [0]))
    world.poll()
    world.consumer.pause()
    world.poll(("revoke", [0]), ("assign", [0, 1]))
    world.poll()
    assert world.client.paused == {0, 1}
    world.consumer.resume()
    assert world.client.paused == set()


def test_exceptions_of_the_listener_reach_the_caller(world: World) -> None:
    """What a listener raises comes out of poll and does not vanish in the client."""
    world.listener.error = BlobtideError("cannot load state")
    world.poll(("assign", [0]))
    with pytest.raises(BlobtideError, match="cannot load state"):
        world.poll()


@pytest.mark.parametrize("error", [ServerUnreachable("Kafka did not answer"), Retry("leaves", after=0.0)])
def test_a_listener_that_cannot_load_its_state_now_is_called_again_before_any_record(world: World, error: Exception) -> None:
    """State that is not loaded, since Kafka went away or the process ends, ends nothing: placed, and told, again."""
    world.client.offsets = {0: 40}
    world.listener.error = error
    world.poll(("assign", [0]))
    assert world.poll([message(0, 40)]) == []
    assert world.consumer.readable() == frozenset()
    world.listener.error = None
    assert world.poll([message(0, 40)]) == [40]
    assert world.listener.log == [("assigned", [0]), ("assigned", [0])]
    world.consumer.rewind()
    world.listener.error = error
    assert world.poll([message(0, 41)]) == []
    world.listener.error = None
    assert world.poll([message(0, 40)]) == [40]
    assert world.listener.log[2:] == [("rewound", [0]), ("rewound", [0])]
    assert world.client.assigned == [{}, *[{0: 40}] * 4]


def test_a_listener_that_asks_for_time_is_left_alone_until_it_is_up(world: World) -> None:
    """Its partitions stay unread meanwhile, without a question to Kafka; others are placed, and one that left is forgotten."""
    world.listener.error = Retry("what it asks does not answer", after=30.0)
    world.poll(("assign", [0]))
    world.poll()
    world.listener.error = None
    world.client.committed_error = KafkaError(KafkaError._TIMED_OUT)  # whoever asked would see it
    assert world.poll([message(0, 0)]) == []
    world.client.committed_error = None
    world.poll(("assign", [1]))
    assert world.poll([message(0, 0), message(1, 0)]) == [0]
    world.now += 30.0
    assert world.poll([message(0, 0), message(1, 1)]) == [0, 1]
    assert world.listener.log == [("assigned", [0]), ("assigned", [1]), ("assigned", [0])]


def test_the_time_that_a_listener_asked_for_ends_with_the_assignment(world: World) -> None:
    """A partition that left and came back is told of at once."""
    world.listener.error = Retry("what it asks does not answer", after=30.0)
    world.poll(("assign", [0]))
    world.poll()
    world.listener.error = None
    world.poll(("revoke", [0]), ("assign", [0]))
    assert world.poll([message(0, 0)]) == [0]


@pytest.mark.parametrize("code", [KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION])
def test_a_position_that_left_the_topic_while_reading_joins_again(world: World, code: int) -> None:
    """When retention overtakes a reader, or the topic lost its end, it joins again and is placed anew; held work is revoked."""
    world.poll(("assign", [0]))
    world.poll()
    world.poll([_error(code)])
    world.poll()
    assert world.made == 2
    assert world.clients[0].closed
    assert world.listener.log[-1] == ("revoked", [0])


def test_passing_errors_are_tolerated_and_others_raised(world: World) -> None:
    """A broker that is away is no exception; a right that is missing is, in one line."""
    assert world.poll([_error(KafkaError._ALL_BROKERS_DOWN), _error(KafkaError._TRANSPORT)]) == []
    with pytest.raises(BlobtideError, match="denied reading t"):
        world.poll([_error(KafkaError.TOPIC_AUTHORIZATION_FAILED)])


def test_a_listener_that_cannot_wait_for_partitions_yet_is_asked_again(world: World) -> None:
    """The news that the group has assigned nothing is repeated until the listener takes it, and no later event is lost."""
    world.listener.error = Retry("the state is away")
    assert world.poll(("assign", [])) == []
    world.poll()
    assert world.listener.log == [("assigned", [])] * 3
    world.listener.error = None
    world.poll()
    world.poll(("revoke", []), ("assign", [0]))
    world.poll()
    assert world.listener.log == [("assigned", [])] * 4 + [("assigned", [0])]


def test_without_a_generation_there_is_nothing_to_commit_with(world: World) -> None:
    """Membership is proved by a generation and by having polled in time; else there is no metadata."""
    world.poll(("assign", [0]))
    assert world.consumer.group_metadata() is not None
    world.now += KafkaSettings().max_poll_interval_ms / 1000 + 1
    assert world.consumer.group_metadata() is None
    world.poll()
    world.client.generation = -1
    assert world.consumer.group_metadata() is None


def test_an_empty_transaction_repeats_the_committed_offset_not_the_position(world: World) -> None:
    """The unmoved offset is the committed one, whatever was delivered since."""
    world.client.offsets = {0: 5}
    world.poll(("assign", [0]))
    world.poll([message(0, 5), message(0, 6)])
    assert world.consumer.unmoved() == {P0: 5}
    world.consumer.moved({P0: 7})
    assert world.consumer.unmoved() == {P0: 7}


def _end(partition: int, offset: int) -> Message:
    return Message(topic="t", partition=partition, offset=offset, error=KafkaError(KafkaError._PARTITION_EOF))


def test_lag_is_asked_for_and_shown_while_paused_and_gone_with_the_partition(world: World) -> None:
    """The end is asked of Kafka now and then, whatever is read; no poll waits for the answer, and what leaves shows nothing."""
    world.client.offsets = {0: 5, 1: 7}
    world.poll(("assign", [0, 1]))
    world.poll()
    world.poll()
    assert (world.admin.questions, shown_lag(0), shown_lag(1)) == (1, None, None)
    world.admin.answer({0: 9})
    world.poll()
    assert (shown_lag(0), shown_lag(1)) == (4, None)  # the leader of the other one is away
    world.consumer.pause()
    world.now += ASK_SECONDS
    world.poll()
    world.admin.answer({0: 30, 1: 7})
    world.poll()
    assert (world.admin.questions, shown_lag(0), shown_lag(1)) == (2, 25, 0)
    world.consumer.moved({P0: 28})
    world.now += ASK_SECONDS
    world.poll()
    world.poll(("revoke", [0, 1]), ("assign", [1]))
    world.admin.answer({0: 30, 1: 8})
    world.poll()
    assert (shown_lag(0), shown_lag(1)) == (None, 1)
    world.consumer.abandon()
    assert shown_lag(1) is None


def test_a_question_that_is_not_answered_is_not_asked_twice(world: World) -> None:
    """While Kafka is away nothing piles up."""
    world.poll(("assign", [0]))
    for _ in range(5):
        world.now += ASK_SECONDS
        world.poll()
    assert world.admin.questions == 1


@pytest.mark.parametrize(("committed", "shown"), [(6, 4), (8, 0)])
def test_what_is_behind_the_last_record_and_is_none_is_no_lag(world: World, committed: int, shown: float) -> None:
    """A marker or aborted records at the end of a partition count only while a record before them waits."""
    world.client.offsets = {0: 5}
    world.poll(("assign", [0]))
    assert world.poll([message(0, 5), message(0, 7), _end(0, 10)]) == [5, 7]
    world.consumer.moved({P0: committed})
    world.admin.answer({0: 10})
    world.poll()
    assert shown_lag(0) == shown
    world.now += ASK_SECONDS
    world.poll()
    world.admin.answer({0: 13})
    world.poll()
    assert shown_lag(0) == shown + 3
    world.consumer.abandon()


def test_a_group_that_only_divides_work_has_no_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose positions never move asks nothing and shows nothing: it would grow for ever."""
    world = World(Use.OWN)
    monkeypatch.setattr(lag, "make_client", lambda *_: world.admin)
    world.consumer.open()
    world.poll(("assign", [0]))
    world.poll()
    world.poll()
    assert (world.admin.questions, shown_lag(0)) == (0, None)


@pytest.mark.parametrize(("code", "reason"), [(KafkaError.REBALANCE_IN_PROGRESS, "moved"), (KafkaError._TIMED_OUT, "failed")])
def test_commits_that_fail_are_counted_by_whether_partitions_moved(world: World, code: int, reason: str) -> None:
    """A commit that Kafka did not take is no exception while that passes, but it counts."""
    lost = {why: since_now("blobtide_kafka_sink_lost_commits_total", reason=why) for why in ("moved", "failed")}

    def refuse(**_: Any) -> None:
        raise KafkaException(KafkaError(code, retriable=True))

    world.client.commit = refuse  # type: ignore[method-assign]
    world.poll(("assign", [0]))
    world.poll([message(0, 0)])
    world.consumer.commit({P0: 1})
    assert sum(count() for count in lost.values()) == 0
    world.poll()
    assert {why: count() for why, count in lost.items()} == {"moved": 0, "failed": 0} | {reason: 1}


def test_a_commit_that_failed_is_repeated_although_nothing_arrives(world: World) -> None:
    """The last batch before a pause is committed too, once Kafka takes commits again; a partition that left is not."""
    sent: list[dict[int, int]] = []
    error: list[KafkaError | None] = [KafkaError(KafkaError._TIMED_OUT, retriable=True)]

    def commit(*, offsets: list[ClientPartition], asynchronous: bool) -> None:
        assert asynchronous
        sent.append({partition.partition: partition.offset for partition in offsets})
        world.consumer._commits.answered(error[0], offsets)

    world.client.commit = commit  # type: ignore[method-assign]
    world.poll(("assign", [0, 1]))
    world.poll([message(0, 0), message(1, 0)])
    world.consumer.commit({P0: 1, P1: 1})
    world.poll()
    world.poll()
    assert sent == [{0: 1, 1: 1}] * 2  # not at every poll
    world.now += 1
    world.poll(("revoke", [0, 1]), ("assign", [1]))
    world.poll()
    error[0] = None
    world.now += 1
    world.poll()
    world.now += 1
    world.poll()
    assert sent[2:] == [{1: 0}]  # where it starts now
