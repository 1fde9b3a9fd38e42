"""A recorder and a collector beside the other processes of a pipeline: what they ask, and the check that nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from libs.common.kafka.client.configs import producer_config
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.demo.arm.server import IDENTITY_HEADER, SUBSCRIPTION, ArmWorld, serving_arm
from tests.answer_server import answering
from tests.audit import wait_until_read
from tests.canaries import TOKEN
from tests.collected import Collected, Machines
from tests.collector_world import LIST, request
from tests.pipeline import Pipeline
from tests.recorder_process import SECONDS, Recorders
from tests.serial_answers import SOURCES, SerialAnswers, assert_recorded_once

MACHINES = 40


@dataclass
class AskedSources:
    """HTTP sources and Azure on this machine."""

    kafka: KafkaSettings
    topics: TopicSettings
    answers: SerialAnswers
    url: str  # of the sources
    azure: str
    sent: set[str] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=count)

    def options(self) -> dict[str, Any]:
        """Return the part of a plan that is about them."""
        options = {"interval_seconds": 0.2, "url": self.url, "bearer_token": TOKEN}
        sources = [{"name": name, "path": f"/{name}", **options} for name in SOURCES]
        ever = {"name": "ever", "templates": ["vms"], "subscriptions": [SUBSCRIPTION], "every_minutes": 1}
        return {
            "recorders": 1,
            "recorder": {"sources": sources},
            "collectors": 1,
            "collector": {"management_url": self.azure, "schedules": [ever], "commit_seconds": 0.1},
            "environ": {"IDENTITY_ENDPOINT": f"{self.azure}/msi/token", "IDENTITY_HEADER": IDENTITY_HEADER},
        }

    def send(self, requests: int) -> None:
        """Send requests to the collector."""
        producer = Producer(producer_config(self.kafka))
        for _ in range(requests):
            name = f"m-{next(self._numbers)}"
            self.sent.add(name)
            producer.produce(self.topics.collection_requests, request(name, LIST, LIST), name.encode())
        assert producer.flush(SECONDS) == 0

    def assert_all_is_well(self, pipeline: Pipeline, directory: Path) -> None:
        """Wait until requests are answered and answers still come, and check that all answers are there once.

        Raises:
            AssertionError: if not.
        """
        before = {name: len(given) for name, given in self.answers.given.items()}
        pipeline.wait(
            lambda: all(len(given) > before[name] + 3 for name, given in self.answers.given.items()), SECONDS, "more answers"
        )
        wait_until_read(pipeline, "collector", self.topics.collection_requests)
        collected = Collected(self.kafka, self.topics)
        collected.assert_answered_once(Machines(MACHINES))
        collected.assert_resources_are(Machines(MACHINES))
        assert self.sent < collected.requests, "those sent, and those of the schedule"
        recorded = Recorders(self.kafka, self.topics, directory, ())
        recorded.until(lambda: all(len(recorded.of(name)) > before[name] for name in SOURCES), "all answers are recorded")
        recorded.close()
        for name, given in self.answers.given.items():
            rows = recorded.of(name)
            assert_recorded_once(rows, given)
            assert len(rows) > before[name], "none was dropped"


@contextmanager
def asked_sources(kafka: KafkaSettings, topics: TopicSettings) -> Iterator[AskedSources]:
    """Serve them."""
    with answering() as server, serving_arm(ArmWorld(machines=MACHINES)) as azure:
        yield AskedSources(kafka, topics, SerialAnswers(server), server.url, azure)
