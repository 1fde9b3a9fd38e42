"""Dead letters outside a transaction, over a fake producer."""

# ruff: noqa: ARG002 - the fake has the client's signatures

from __future__ import annotations

from typing import Any

import pytest

from libs.common.errors import Retry
from libs.common.kafka.loops import dead_letter_writer
from libs.common.kafka.loops.dead_letter_writer import DeadLetterWriter
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.settings.kafka import KafkaSettings
from tests.metric_values import since_now


class _Producer:
    """Holds ten messages; a flush has them acknowledged, unless Kafka is away."""

    def __init__(self) -> None:
        self.queue: list[bytes] = []
        self.written: list[bytes] = []
        self.away = False

    def produce(self, topic: str, value: bytes, key: bytes | None, **_: Any) -> None:
        if len(self.queue) == 10:
            raise BufferError("Local: Queue full")
        self.queue.append(value)

    def flush(self, seconds: float) -> int:
        if not self.away:
            self.written += self.queue
            self.queue.clear()
        return len(self.queue)


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> _Producer:
    """Return the producer that writers use."""
    made = _Producer()
    monkeypatch.setattr(dead_letter_writer, "make_client", lambda *_: made)
    return made


LETTERS = [DeadLetter("s", ErrorCode.REFUSED, "r", b"%d" % number) for number in range(35)]


def test_more_letters_than_the_client_holds_are_written(producer: _Producer) -> None:
    """A full queue is waited for; every letter is written once, in order, and counts."""
    counted = since_now("blobtide_kafka_dead_letters_total", stage="s", code="refused")
    DeadLetterWriter(KafkaSettings(), "errors").write(LETTERS)
    assert producer.written == [letter.data for letter in LETTERS]
    assert counted() == len(LETTERS)


def test_a_full_queue_of_which_kafka_takes_nothing_is_tried_again_later(producer: _Producer) -> None:
    """While Kafka is away, the letters wait outside of the client."""
    producer.away = True
    counted = since_now("blobtide_kafka_dead_letters_total", stage="s", code="refused")
    with pytest.raises(Retry, match="Kafka took none"):
        DeadLetterWriter(KafkaSettings(), "errors").write(LETTERS)
    assert counted() == 0
