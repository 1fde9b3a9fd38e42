"""Collectors, killed at random moments while requests come from everywhere: each ends once, and resources are what there is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from libs.common.azure.storage.queues import open_queue
from libs.common.kafka.client.configs import producer_config
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.storage import EventQueue
from libs.demo.arm.server import SUBSCRIPTION
from tests.arm_process import ArmProcess, arm_process
from tests.audit import wait_until_read
from tests.collected import Collected, Machines
from tests.collector_world import LIST, one, request
from tests.fixtures.long import Scale
from tests.pipeline import Account, Pipeline, Plan
from tests.queue_writer import QueueWriter, settings_of
from tests.topic_tools import committed_records, members

pytestmark = [pytest.mark.kafka, pytest.mark.azurite, pytest.mark.timeout(3600)]

SEED = 20261201
SECONDS = 120.0
STOP_SECONDS = 10.0
MACHINES = 60
SIZE = "Standard_E4s_v5"  # of all machines in the end
PAGE_SIZE = 4
GRAPH: dict[str, Any] = {
    "service": "graph",
    "api_version": "2022-10-01",
    "method": "POST",
    "resource_path": "/providers/Microsoft.ResourceGraph/resources",
    "body": {"query": "Resources", "subscriptions": [SUBSCRIPTION]},
}


class Requests:
    """Sends requests to the topic and to the queue, some of them twice, and junk to the queue."""

    def __init__(self, kafka: KafkaSettings, topic: str, queue: QueueWriter, dice: random.Random) -> None:
        self._producer = Producer(producer_config(kafka))
        self._topic = topic
        self._queue = queue
        self._dice = dice
        self._numbers = count()
        self.accepted: set[str] = set()
        self.junk: set[str] = set()

    def send(self, *calls: dict[str, Any]) -> None:
        """Send a request of these calls, or of some."""
        name = f"m-{next(self._numbers)}"
        chosen = calls or self._dice.sample((LIST, one("vm-000007"), one("nobody")), self._dice.randint(1, 3))
        data = request(name, *chosen, priority=self._dice.choice(("high", "normal", "low")))
        self.accepted.add(name)
        for _ in range(1 if calls else self._dice.choice((1, 1, 2))):
            if not calls and self._dice.random() < 0.5:
                self._queue.put(data.decode())
            else:
                self._producer.produce(self._topic, data, name.encode())
        assert self._producer.flush(SECONDS) == 0

    def send_junk(self) -> None:
        """Put something into the queue that is no request."""
        text = f"<junk-{next(self._numbers)}>"
        self.junk.add(text)
        self._queue.put(text)


@dataclass(frozen=True, slots=True)
class Chaos:
    """What happens; the seed is always the same one in a build, and another one in each long run."""

    seed: int
    kills: int
    dice: random.Random


@pytest.fixture
def chaos(scale: Scale) -> Chaos:
    """Return what happens, and print the seed, which is shown if the test fails."""
    is_long = scale is Scale.LONG
    seed = random.SystemRandom().randrange(1_000_000) if is_long else SEED
    print(f"seed {seed}")  # noqa: T201
    return Chaos(seed, 100 if is_long else 3, random.Random(seed))


@pytest.fixture
def arm(chaos: Chaos) -> Iterator[ArmProcess]:
    """Azure with faults."""
    with arm_process(MACHINES, PAGE_SIZE, 0.05, chaos.seed) as running:
        yield running


def plan_of(kafka: KafkaSettings, topics: TopicSettings, directory: Path, arm: ArmProcess, queue: QueueWriter) -> Plan:
    """Return two collectors with a queue, and schedules of which some are due while the test runs."""
    schedules = [
        {"name": f"clock-{number}", "templates": ["vms"], "subscriptions": [SUBSCRIPTION], "every_minutes": every}
        for number, every in enumerate((1, 1, 2, 1_000))
    ]
    collector = {
        "management_url": arm.url,
        "queue": settings_of(queue) | {"poll_seconds": 0.2, "visibility_seconds": 5},
        "schedules": schedules,
        "concurrency": 4,
        "commit_seconds": 0.1,
    }
    more: dict[str, Any] = {"collectors": 2, "collector": collector, "environ": arm.environ}
    return Plan(kafka, topics, Account(""), (), directory, {}, 0, 0, 0, **more)


def poisoned(queue: QueueWriter) -> set[str]:
    """Return what is in a poison queue."""
    reader = open_queue(queue.storage, "test", EventQueue(queue=queue.name))
    try:
        found: set[str] = set()
        while messages := reader.receive(32, 600):
            found |= {message.text for message in messages}
        return found
    finally:
        reader.close()


def test_each_accepted_request_ends_once_whatever_is_killed(
    kafka_settings: KafkaSettings,
    topics: TopicSettings,
    queue: QueueWriter,
    arm: ArmProcess,
    tmp_path: Path,
    chaos: Chaos,
) -> None:
    """No page is missing or there twice, no message stays in the queue, and the resources are those that there are."""
    dice = chaos.dice
    poison = QueueWriter(queue.storage, f"{queue.name}-poison", queue.pool)
    poison.create()
    sent = Requests(kafka_settings, topics.collection_requests, queue, dice)
    gone, plan = dice.sample(range(MACHINES), 5), plan_of(kafka_settings, topics, tmp_path, arm, queue)
    with Pipeline(plan).running() as pipeline:
        pipeline.wait_until_ready()
        for name in islice(cycle(pipeline.names()), chaos.kills):
            sent.send_junk()
            if dice.random() < 0.3:  # Azure takes three pages of queries a second
                sent.send(LIST, GRAPH)
            for _ in range(dice.randint(1, 8)):
                sent.send()
            pipeline.go_on_for(dice.uniform(0.1, 3))
            pipeline.kill(name)
        pipeline.wait(lambda: queue.count() == 0, SECONDS, "every message is deleted")
        pipeline.wait(lambda: members(kafka_settings, "collector") == 2, SECONDS, "the dead have left the group")
        wait_until_read(pipeline, "collector", topics.collection_requests)
        arm.change(gone=gone, size=SIZE)
        sent.send(LIST)
        wait_until_read(pipeline, "collector", topics.collection_requests)
        ended = pipeline.take_out(*pipeline.names())
    assert all(one.seconds < STOP_SECONDS for one in ended.values())
    found, machines = Collected(kafka_settings, topics), Machines(MACHINES, frozenset(f"vm-{index:06}" for index in gone), SIZE)
    found.assert_answered_once(machines)
    found.assert_resources_are(machines)
    dead = poisoned(poison)
    assert dead == sent.junk == {(record.value or b"").decode() for record in committed_records(kafka_settings, topics.errors)}
    by_clock = found.requests - sent.accepted
    assert found.requests == sent.accepted | by_clock
    assert {name.partition(":")[0] for name in by_clock} == {schedule["name"] for schedule in plan.collector["schedules"]}
