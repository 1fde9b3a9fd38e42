"""Records outside of a transaction, over a fake client and over the client's own mock of Kafka."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import BlobtideError, ConfigError, Retry
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.configs import Config
from libs.common.kafka.publisher import Publisher, PublisherSpec
from libs.common.kafka.records import Outbound
from libs.common.kafka.testing import FakeProducer
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.settings.kafka import KafkaSettings
from tests.metric_values import since_now

KAFKA = KafkaSettings()
TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)


class _World:
    """A publisher of "things" whose clients are kept: each is made by `make` when one is needed."""

    def __init__(self, records: int = 100, limits: dict[str, int] | None = None) -> None:
        self.configs: list[Config] = []
        self.clients: list[FakeProducer] = []
        self.make: Callable[[], FakeProducer] = FakeProducer
        known = {} if limits is None else limits
        self.publisher = Publisher(
            KAFKA,
            PublisherSpec("things", ("t",), records),
            TopicLimits(KAFKA, ("t",), lambda topics: {topic: known[topic] for topic in topics if topic in known}),
            self._make,
            lambda: self.clients[-1].now if self.clients else 0.0,
        )

    def _make(self, config: Config, _: ClientLog) -> FakeProducer:
        self.configs.append(config)
        self.clients.append(self.make())
        return self.clients[-1]

    @property
    def written(self) -> list[bytes | None]:
        return [record.value for client in self.clients for record in client.written]


def _records(count: int, topic: str = "t") -> list[Outbound]:
    return [Outbound(topic, b"%d" % number, b"k%d" % (number % 3), (("id", b"%d" % number),)) for number in range(count)]


def test_everything_is_acknowledged_in_order_when_it_returns() -> None:
    """Value, key, headers and partition arrive as they were given; what was acknowledged counts."""
    counted = since_now("blobtide_kafka_records_published_total", what="things")
    world = _World()
    records = [*_records(35), Outbound("t", None, b"gone", partition=2)]
    assert world.publisher.publish(records) == []
    assert world.clients[0].written == records
    assert counted() == len(records)


def test_the_client_is_idempotent_bounded_and_silent_about_what_goes_well() -> None:
    """It chooses partitions as all our producers do; its bounds are those of the spec unless the operator says otherwise."""
    world = _World(records=50)
    world.publisher.publish(_records(1))
    config = world.configs[0]
    assert config["enable.idempotence"] is True
    assert config["acks"] == "all"
    assert config["partitioner"] == "murmur2_random"
    assert config["delivery.report.only.error"] is True
    assert config["queue.buffering.max.messages"] == 50
    assert config["queue.buffering.max.kbytes"] == 32_768
    own = KafkaSettings(librdkafka={"queue.buffering.max.messages": "7"})
    assert Publisher(own, PublisherSpec("things"))._config()["queue.buffering.max.messages"] == "7"


def test_no_more_is_under_way_than_the_bound_says() -> None:
    """A publication that is larger goes in parts, each acknowledged before the next; a full client is waited for."""
    world = _World(records=8)
    world.make = lambda: FakeProducer(room=100)
    world.publisher.publish(_records(50))
    assert world.clients[0].most == 8
    assert world.written == [record.value for record in _records(50)]


@given(
    count=st.integers(0, 60),
    room=st.integers(1, 9),
    records=st.integers(1, 20),
    bad=st.sets(st.integers(0, 59)),
)
def test_refused_records_are_named_by_their_place_and_all_others_written(
    count: int, room: int, records: int, bad: set[int]
) -> None:
    """Whatever the bounds, a record that Kafka refuses for good costs itself only."""
    refusal = KafkaError(KafkaError.INVALID_RECORD)
    world = _World(records=records)
    world.make = lambda: FakeProducer(room, lambda record: refusal if int(record.value or b"") in bad else None)
    refused = world.publisher.publish(_records(count))
    assert [one.index for one in refused] == sorted(number for number in bad if number < count)
    assert world.written == [b"%d" % number for number in range(count) if number not in bad]


def test_records_that_were_refused_because_of_another_are_sent_again() -> None:
    """Kafka refuses a whole batch for one record: the others are written."""
    innocent, guilty = KafkaError(KafkaError._INVALID_DIFFERENT_RECORD), KafkaError(KafkaError.INVALID_RECORD)
    seen: list[bytes] = []

    def answer(record: Outbound) -> KafkaError | None:
        seen.append(record.value or b"")
        if record.value == b"2":
            return guilty
        return innocent if seen.count(record.value or b"") == 1 else None

    world = _World()
    world.make = lambda: FakeProducer(10, answer)
    refused = world.publisher.publish(_records(5))
    assert [(one.index, one.is_too_large) for one in refused] == [(2, False)]
    assert world.written == [b"0", b"1", b"3", b"4"]


def test_an_answer_that_blames_another_record_each_time_ends() -> None:
    """If Kafka names no culprit, nobody is asked for ever."""
    world = _World()
    world.make = lambda: FakeProducer(10, lambda _: KafkaError(KafkaError._INVALID_DIFFERENT_RECORD))
    assert [one.index for one in world.publisher.publish(_records(3))] == [0, 1, 2]


def test_a_record_that_its_topic_does_not_take_is_refused_and_its_batch_is_sent_smaller() -> None:
    """Records that were sent together are refused together: the limit is learned, and only what exceeds it is refused."""
    world = _World(limits={"t": 50_000})
    large, small = Outbound("t", b"x" * 60_000), Outbound("t", b"s" * 20_000)

    def answer(record: Outbound) -> KafkaError | None:
        return TOO_LARGE if len(world.clients) == 1 or len(record.value or b"") > 50_000 else None

    world.make = lambda: FakeProducer(10, answer)
    refused = world.publisher.publish([small, large, small])
    assert [(one.index, one.is_too_large) for one in refused] == [(1, True)]
    assert world.written == [small.value, small.value]
    assert [config["batch.size"] for config in world.configs] == [1_000_000, 50_000]


def test_a_topic_of_no_use_is_the_operators_to_change() -> None:
    """A topic that takes next to nothing ends the publication with the setting to change."""
    world = _World(limits={"t": 5_000})
    world.make = lambda: FakeProducer(10, lambda _: TOO_LARGE)
    with pytest.raises(ConfigError, match="topic t accepts messages of at most 5000 bytes"):
        world.publisher.publish([Outbound("t", b"x" * 20_000)])


@pytest.mark.parametrize(
    ("errors", "kind", "text"),
    [
        ([KafkaError._MSG_TIMED_OUT], Retry, "things were not written"),
        ([KafkaError.NOT_ENOUGH_REPLICAS], Retry, "things were not written"),
        ([KafkaError.TOPIC_AUTHORIZATION_FAILED], BlobtideError, "Kafka denied writing things to t"),
        ([KafkaError._MSG_TIMED_OUT, KafkaError.TOPIC_AUTHORIZATION_FAILED], BlobtideError, "denied"),
        ([KafkaError.INVALID_REQUIRED_ACKS], BlobtideError, "Kafka failed while writing things to t"),
        ([KafkaError.INVALID_RECORD, KafkaError.REQUEST_TIMED_OUT], Retry, "things were not written"),
    ],
)
def test_what_fails_without_a_records_fault_concerns_all(errors: Sequence[int], kind: type[Exception], text: str) -> None:
    """What passes is tried again as a whole, with a new client; what does not says what to do. Nothing counts as published."""
    counted = since_now("blobtide_kafka_records_published_total", what="things")
    world = _World()
    codes = dict(enumerate(errors))
    world.make = lambda: FakeProducer(
        10, lambda record: KafkaError(codes[int(record.value or b"")]) if int(record.value or b"") in codes else None
    )
    with pytest.raises(kind, match=text) as raised:
        world.publisher.publish(_records(4))
    assert type(raised.value) is kind
    assert counted() == 0
    codes.clear()
    assert world.publisher.publish(_records(4)) == []
    assert len(world.clients) == 2


@pytest.mark.parametrize("code", [KafkaError._MSG_TIMED_OUT, KafkaError.UNKNOWN_TOPIC_OR_PART])
def test_a_topic_that_is_missing_is_named(code: int) -> None:
    """Records that cannot be written because their topic does not exist say so, whatever the client calls it."""
    world = _World()

    def without_topic() -> FakeProducer:
        client = FakeProducer(10, lambda _: KafkaError(code))
        client.missing = frozenset({"t"})
        return client

    world.make = without_topic
    with pytest.raises(Retry, match="things were not written: topic t does not exist, or this user may not see it"):
        world.publisher.publish(_records(4))


@pytest.mark.parametrize("count", [3, 30])  # that fit in the client, and that do not
def test_while_kafka_is_away_the_records_go_back_within_seconds(count: int) -> None:
    """Nothing is waited for without end, and meanwhile the caller is called often enough to stay alive."""
    world = _World()
    calls: list[float] = []

    def away() -> FakeProducer:
        client = FakeProducer()
        client.is_away = True
        return client

    world.make = away
    with pytest.raises(Retry, match="acknowledged none of the pending things within 3 s"):
        world.publisher.publish(_records(count), lambda: calls.append(world.clients[0].now))
    assert 3.0 <= world.clients[0].now < 4.0
    assert max(late - early for early, late in zip([0.0, *calls], calls, strict=False)) <= 0.5


def test_whoever_waits_may_leave() -> None:
    """What `between` raises comes out, and the next publication has another client."""
    world = _World()

    def leave() -> None:
        raise Retry("the service ends")

    with pytest.raises(Retry, match="the service ends"):
        world.publisher.publish(_records(30), leave)
    world.publisher.publish(_records(1))
    assert len(world.clients) == 2


def test_nothing_to_publish_needs_no_client() -> None:
    """An empty publication makes none, and takes the log lines of one that is there."""
    world = _World()
    assert world.publisher.publish([]) == []
    assert world.clients == []


def test_the_real_client_reports_a_failure_to_the_record_that_it_is_of() -> None:
    """Over the client's own mock of a broker records are acknowledged, and one that is too large is refused by its place."""
    kafka = KafkaSettings(message_max_bytes=200_000, librdkafka={"test.mock.num.brokers": "1", "log_level": "0"})
    publisher = Publisher(kafka, PublisherSpec("things", records=500))
    records = [Outbound("t", b"x" * (300_000 if number == 1_234 else 50), b"k%d" % number) for number in range(2_000)]
    refused = publisher.publish(records)
    publisher.close()
    assert [(one.index, one.is_too_large) for one in refused] == [(1_234, True)]


def test_records_with_a_key_are_sent_again_when_one_without_is_refused_with_the_same_error() -> None:
    """The client reports the error of a batch's only refused record for all of them: it is the one that has no key."""
    refused = KafkaError(KafkaError.INVALID_RECORD)
    keyless = Outbound("t", b"keyless", None)
    seen: list[bytes] = []

    def answer(record: Outbound) -> KafkaError | None:
        seen.append(record.value or b"")
        return refused if record.key is None or seen.count(record.value or b"") == 1 else None

    world = _World()
    world.make = lambda: FakeProducer(10, answer)
    found = world.publisher.publish([*_records(2), keyless])
    assert [one.index for one in found] == [2]
    assert world.written == [b"0", b"1"]
