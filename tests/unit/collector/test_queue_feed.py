"""Requests from a queue: written once to Kafka, and deleted when that is committed."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from libs.common.azure.storage.api import MessageGone, QueueMessage, Receipt, StorageUnavailable
from libs.common.kafka.records import CommitResult
from tests.collector_world import LIST, TOPICS, CollectorWorld, request
from tests.fakes.arm_server import ArmWorld, serving_arm


@dataclass
class FlakyQueue:
    """A queue that shows messages again when it is told to, and fails when it is told to."""

    texts: dict[str, str]
    deliveries: dict[str, int] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    failures: int = 0
    late: frozenset[str] = frozenset()
    lock: threading.Lock = field(default_factory=threading.Lock)

    def receive(self, most: int, hidden_seconds: int) -> list[QueueMessage]:
        """Return what is not hidden."""
        assert hidden_seconds == 120
        with self.lock:
            if self.failures:
                self.failures -= 1
                raise StorageUnavailable("away", after=0.0)
            names = [name for name in self.texts if name not in self.hidden][:most]
            self.hidden.update(names)
            for name in names:
                self.deliveries[name] = self.deliveries.get(name, 0) + 1
            return [QueueMessage(Receipt(name, "pop"), self.texts[name], self.deliveries[name]) for name in names]

    def delete(self, receipt: Receipt) -> None:
        """Delete a message."""
        with self.lock:
            if receipt.message in self.late:
                raise MessageGone("late")
            del self.texts[receipt.message]

    def close(self) -> None:
        """Nothing to close."""


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
    queue = world.queue = FlakyQueue(texts, deliveries={"e": 5}, failures=2)
    world.run(until=lambda: not queue.texts)
    sent = [] if world.session is None else world.session.outputs(TOPICS.collection_requests)
    assert [(output.key, output.value) for output in sent] == [(b"m-1", good), (b"m-2", encoded)]
    assert world.letters() == [("bad_json", b"<xml>"), ("bad_record", b'{"message_id":"x"}'), ("unhandled", good)]


def test_a_message_is_deleted_only_when_its_request_is_committed(world: CollectorWorld) -> None:
    """After an aborted transaction it comes again; one that is deleted too late comes again, too."""
    queue = world.queue = FlakyQueue(
        {"a": request("m-1", LIST).decode(), "b": request("m-2", LIST).decode()}, late=frozenset({"b"})
    )
    world.prepare = lambda session: session.endings.append(CommitResult.ABORTED)
    world.run(until=lambda: world.session is not None and not world.session.endings)
    assert set(queue.texts) == {"a", "b"}
    world.prepare = lambda _: None
    queue.hidden.clear()
    world.run(until=lambda: "a" not in queue.texts)
    assert set(queue.texts) == {"b"}
    assert queue.deliveries == {"a": 2, "b": 2}
