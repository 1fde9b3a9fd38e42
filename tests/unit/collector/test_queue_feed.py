"""Requests from a queue: written once to Kafka, and deleted when that is committed."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from libs.common.azure.storage.api import MessageGone, QueueMessage, Receipt, StorageRefused, StorageUnavailable
from libs.common.kafka.records import CommitResult
from libs.common.settings.collector import RequestQueue
from libs.demo.arm.server import ArmWorld, serving_arm
from services.collector.queue_feed import QueueFeed, QueuePlace
from tests.collector_world import LIST, QUEUE, TOPICS, CollectorWorld, request
from tests.metric_values import since_now
from tests.running import until


@dataclass
class FlakyQueue:
    """A queue that shows messages again when it is told to, and fails when it is told to."""

    texts: dict[str, str] = field(default_factory=dict)
    deliveries: dict[str, int] = field(default_factory=dict)
    pops: dict[str, int] = field(default_factory=dict)  # the newest receipt
    hidden: set[str] = field(default_factory=set)
    failures: list[Exception] = field(default_factory=list)
    late: frozenset[str] = frozenset()
    lock: threading.Lock = field(default_factory=threading.Lock)

    def receive(self, most: int, hidden_seconds: int) -> list[QueueMessage]:
        """Return what is not hidden."""
        assert hidden_seconds == 120
        with self.lock:
            self._fail()
            names = [name for name in self.texts if name not in self.hidden][:most]
            self.hidden.update(names)
            for name in names:
                self.deliveries[name] = self.deliveries.get(name, 0) + 1
            return [QueueMessage(self._receipt(name), self.texts[name], self.deliveries[name]) for name in names]

    def extend(self, receipt: Receipt, hidden_seconds: int) -> Receipt:
        """Give a new receipt."""
        assert hidden_seconds == 120
        with self.lock:
            self._check(receipt)
            return self._receipt(receipt.message)

    def delete(self, receipt: Receipt) -> None:
        """Delete a message."""
        with self.lock:
            self._check(receipt)
            del self.texts[receipt.message]

    def put(self, text: str) -> None:
        """Add a message."""
        with self.lock:
            self._fail()
            self.texts[f"new-{len(self.texts)}"] = text

    def close(self) -> None:
        """Nothing to close."""

    def _receipt(self, name: str) -> Receipt:
        self.pops[name] = self.pops.get(name, 0) + 1
        return Receipt(name, str(self.pops[name]))

    def _check(self, receipt: Receipt) -> None:
        if receipt.message in self.late or receipt.pop != str(self.pops[receipt.message]):
            raise MessageGone("late")

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


@pytest.fixture
def world() -> Iterator[CollectorWorld]:
    """A collector without anything in Kafka."""
    arm = ArmWorld()
    with serving_arm(arm) as url:
        yield CollectorWorld(arm, url)


def test_messages_become_requests_and_are_deleted(world: CollectorWorld) -> None:
    """As text or as base64, under their ids; what is no request, or was received too often, is a dead letter with its bytes."""
    good, encoded = request("m-1", LIST), request("m-2", LIST)
    texts = {
        "a": good.decode(),
        "b": base64.b64encode(encoded).decode(),
        "c": "<xml>",
        "d": '{"message_id":"x"}',
        "e": good.decode(),
    }
    away = StorageUnavailable("away", after=0.0)
    queue = world.queue = FlakyQueue(texts, deliveries={"e": 5}, failures=[away, away])
    poison = world.poison = FlakyQueue(failures=[StorageRefused("not there"), away])
    outcomes = [since_now("blobtide_collector_messages_total", outcome=outcome) for outcome in ("deleted", "poison", "late")]
    world.run(until=lambda: len(queue.texts) == 1)
    sent = [] if world.session is None else world.session.outputs(TOPICS.collection_requests)
    assert [(output.key, output.value) for output in sent] == [(b"m-1", good), (b"m-2", encoded)]
    assert world.letters() == [("bad_json", b"<xml>"), ("bad_record", b'{"message_id":"x"}'), ("unhandled", good)]
    assert list(poison.texts.values()) == [good.decode()]
    assert list(queue.texts) == ["d"], "it comes again, because the poison queue was away"
    until(lambda: [outcome() for outcome in outcomes] == [2, 2, 1], "the outcomes are counted")


def test_a_message_is_deleted_only_when_its_request_is_committed(world: CollectorWorld) -> None:
    """After an aborted transaction it is written again; one that is deleted too late comes again."""
    queue = world.queue = FlakyQueue(
        {"a": request("m-1", LIST).decode(), "b": request("m-2", LIST).decode()}, late=frozenset({"b"})
    )
    world.prepare = lambda session: session.endings.append(CommitResult.ABORTED)
    world.run(until=lambda: "a" not in queue.texts)
    sent = [] if world.session is None else world.session.outputs(TOPICS.collection_requests)
    assert [output.key for output in sent] == [b"m-1", b"m-2"]
    assert set(queue.texts) == {"b"}
    assert queue.deliveries == {"a": 1, "b": 1}


def test_messages_are_kept_hidden_until_they_are_written() -> None:
    """They are deleted with the newest receipt; without room for them, none is received; an unforeseen error is raised."""
    queue, passed = FlakyQueue({"a": request("m-1", LIST).decode()}), [0.0]
    feed = QueueFeed(QueuePlace(queue, FlakyQueue(), QUEUE, TOPICS, lambda: passed[0]))
    feed.start()
    assert queue.deliveries == {}
    until(lambda: bool(feed.take()), "a message arrives")
    for extended in (2, 3):
        passed[0] += 60
        until(lambda extended=extended: queue.pops["a"] == extended, "it is kept hidden")  # type: ignore[misc]
    feed.settle(committed=True)
    until(lambda: not queue.texts, "it is deleted")
    queue.failures.append(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        until(lambda: bool(feed.take()), "the error")


def test_a_queue_that_cannot_be_read_is_a_note_for_probes(world: CollectorWorld) -> None:
    """Until it can be read again."""
    world.queue = FlakyQueue(failures=[StorageUnavailable("away", after=0.2)])
    said: list[str] = []

    def over() -> bool:
        said.extend(world.health.notes())
        return bool(said) and not world.health.notes()

    world.run(until=over)
    assert set(said) == {"the queue of requests cannot be read: away"}


def test_the_poison_queue_is_another_queue() -> None:
    """Its name is that of the queue with -poison, or another one; never that of the queue itself."""
    account = {"storage": {"account_name": "requests"}}
    assert QUEUE.poison.queue == "requests-poison"
    assert RequestQueue.model_validate({**account, "queue": "a" * 63, "poison_queue": "bad"}).poison.queue == "bad"
    for queue, poison, said in (("a" * 57, None, "set poison_queue"), ("one", "one", "must not be the queue itself")):
        with pytest.raises(ValueError, match=said):
            RequestQueue.model_validate({**account, "queue": queue, "poison_queue": poison})
