"""Dead letters outside a transaction, over a fake client."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from libs.common.errors import BlobtideError, Retry
from libs.common.kafka.loops.dead_letter_writer import DeadLetterWriter
from libs.common.kafka.publisher import Publisher, PublisherSpec
from libs.common.kafka.testing import FakeProducer
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.settings.kafka import KafkaSettings
from tests.metric_values import since_now

KAFKA = KafkaSettings()
LETTERS = [DeadLetter("s", ErrorCode.REFUSED, "r", b"%d" % number) for number in range(35)]


def _writer(client: FakeProducer, told: int = 1_000_000) -> DeadLetterWriter:
    limits = TopicLimits(KAFKA, ("errors",), lambda topics: dict.fromkeys(topics, told))
    spec = PublisherSpec("dead letters", ("errors",))
    return DeadLetterWriter(KAFKA, "errors", Publisher(KAFKA, spec, limits, lambda *_: client, lambda: client.now))


def test_more_letters_than_the_client_holds_are_written() -> None:
    """A full queue is waited for; every letter is written once, in order, and counts."""
    counted = since_now("blobtide_kafka_dead_letters_total", stage="s", code="refused")
    client = FakeProducer(room=10)
    _writer(client).write(LETTERS)
    assert [record.value for record in client.written] == [letter.data for letter in LETTERS]
    assert {record.topic for record in client.written} == {"errors"}
    assert counted() == len(LETTERS)


def test_letters_of_which_kafka_takes_none_are_tried_again_later() -> None:
    """While Kafka is away, the letters wait outside of the client."""
    client = FakeProducer()
    client.is_away = True
    counted = since_now("blobtide_kafka_dead_letters_total", stage="s", code="refused")
    with pytest.raises(Retry, match="Kafka acknowledged none of the pending dead letters"):
        _writer(client).write(LETTERS)
    assert counted() == 0


def test_a_letter_that_the_topic_does_not_take_any_more_is_written_cut() -> None:
    """When the limit was lowered the letters are to be written again, at once; then the beginning of the large one fits."""
    most = 100_000
    client = FakeProducer(10, lambda record: KafkaError(KafkaError.MSG_SIZE_TOO_LARGE) if _size(record.value) > most else None)
    writer = _writer(client, told=most)
    letter = DeadLetter("s", ErrorCode.REFUSED, "r", b"x" * 300_000)
    with pytest.raises(Retry, match="does not accept messages as large") as raised:
        writer.write([letter])
    assert raised.value.after == 0
    writer.write([letter])
    assert [80_000 < _size(record.value) < most for record in client.written] == [True]


def test_letters_that_kafka_never_takes_end_the_service() -> None:
    """A policy of the broker against dead letters is the operator's to change: nothing is skipped."""
    client = FakeProducer(10, lambda _: KafkaError(KafkaError.POLICY_VIOLATION))
    with pytest.raises(BlobtideError, match="dead letters cannot be written to errors"):
        _writer(client).write(LETTERS)


def _size(value: bytes | None) -> int:
    return len(value or b"")
