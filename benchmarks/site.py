"""The topics, consumer group prefix and settings file of one measurement, with writes to and queries of its topics."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import yaml
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from benchmarks.errors import BenchmarkFailed
from benchmarks.estates import ENVIRONMENT, SUBSCRIPTION
from libs.common.kafka.client.configs import producer_config
from libs.common.kafka.readers.follow import Follower, Since
from libs.common.kafka.records import Outbound
from libs.common.kafka.topics.admin import apply_topics, load_topic_specs
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.azurite import LocalAzurite
from libs.local.kafka import LocalKafka

_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.05
_QUEUE_FULL_SECONDS: Final = 0.1


def _unique() -> str:
    return uuid.uuid4().hex[:8]


@dataclass(frozen=True)
class Site:
    """Where one measurement takes place. Topics are as declared in deploy/topics.yaml, under unique names."""

    directory: Path
    topics: TopicSettings
    kafka: KafkaSettings
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def make(cls, server: LocalKafka, extra: dict[str, Any] | None = None) -> Site:
        """Create the topics; `extra` is added to the settings file."""
        suffix = _unique()
        topics = TopicSettings(**{field: f"{name}.{suffix}" for field, name in TopicSettings().model_dump().items()})
        kafka = KafkaSettings(bootstrap_servers=server.bootstrap_servers, group_prefix=f"bench_{suffix}")
        apply_topics(kafka, topics, load_topic_specs())
        directory = server.data_dir.parent / suffix
        directory.mkdir()
        return cls(directory, topics, kafka, extra or {})

    def again(self) -> Site:
        """Return a site with the same topics, whose groups have not read anything yet."""
        suffix = _unique()
        kafka = self.kafka.model_copy(update={"group_prefix": f"bench_{suffix}"})
        home = self.directory / suffix
        home.mkdir()
        return Site(home, self.topics, kafka, dict(self.extra))

    @cached_property
    def config(self) -> Path:
        """The settings file: only addresses and names; everything else has its default."""
        values = {
            "kafka": {"bootstrap_servers": self.kafka.bootstrap_servers, "group_prefix": self.kafka.group_prefix},
            "topics": self.topics.model_dump(),
            **self.extra,
        }
        file = self.directory / "config.yaml"
        file.write_text(yaml.safe_dump(values), encoding="utf-8")
        return file

    def write(self, records: Iterable[Outbound]) -> None:
        """Write records without a transaction and wait until the broker has them."""
        producer = Producer({**producer_config(self.kafka), "linger.ms": 50, "log_level": 0})
        for record in records:
            partition = -1 if record.partition is None else record.partition
            while True:
                try:
                    producer.produce(record.topic, record.value, record.key, partition, headers=list(record.headers))
                    break
                except BufferError:
                    producer.poll(_QUEUE_FULL_SECONDS)
        if left := producer.flush(_SECONDS):
            raise BenchmarkFailed(f"Kafka did not accept {left} records")

    def lag(self, role: str, topic: str) -> int | None:
        """Return how many records of `topic` the group has not committed; None if Kafka cannot say just now.

        The topic must not be written to in transactions, whose markers would be counted.
        """
        looker = self._looker(f"{self.kafka.group_prefix}.{role}")
        try:
            numbers = looker.list_topics(topic, timeout=_SECONDS).topics[topic].partitions
            committed = looker.committed([TopicPartition(topic, number) for number in numbers], timeout=_SECONDS)
            ends = [looker.get_watermark_offsets(one, timeout=_SECONDS)[1] for one in committed]
        except KafkaException:
            return None
        return sum(end - max(0, one.offset) for one, end in zip(committed, ends, strict=True))

    def total(self, topic: str, count: Callable[[bytes, dict[str, bytes]], int]) -> int:
        """Return the sum of `count(value, headers)` over all committed records of `topic`."""
        follower = Follower(self.kafka, (topic,), Since(0))
        follower.open()
        try:
            return sum(count(record.value or b"", dict(record.headers)) for record in follower.backlog())
        finally:
            follower.close()

    def first_time(self, topic: str) -> float:
        """Return when the first record of `topic` was written, in seconds since 1970."""
        follower = Follower(self.kafka, (topic,), Since(0))
        follower.open()
        try:
            return min(record.timestamp_ms for record in follower.backlog()) / 1000
        finally:
            follower.close()

    def _looker(self, group: str) -> Consumer:
        """Return a consumer that observes `group` without joining; silent, because it may outlive its broker."""
        if group not in self._lookers:
            config = {"bootstrap.servers": self.kafka.bootstrap_servers, "group.id": group, "log_level": 0}
            self._lookers[group] = Consumer(config)
        return self._lookers[group]

    @cached_property
    def _lookers(self) -> dict[str, Consumer]:
        return {}


def rows_in(_: bytes, headers: dict[str, bytes]) -> int:
    """Count the rows of a flow batch, for `Site.total`."""
    return int(headers["rows"])


def storage_settings(azurite: LocalAzurite, container: str) -> dict[str, Any]:
    """Return the settings of a monitor and ingest that follow one container."""
    environment = {
        "storage": {"connection_string": azurite.connection_string},
        "sources": [{"container": container, "layout": "flat"}],
        "interval_seconds": 1,
    }
    return {"subscriptions": {SUBSCRIPTION: {"environments": {ENVIRONMENT: environment}}}}


def wait_until(done: Callable[[], bool], what: str, seconds: float = 600.0) -> None:
    """Poll until `done` returns true.

    Raises:
        BenchmarkFailed: if it does not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"after {seconds:.0f} s this is still not so: {what}")
        time.sleep(_LOOK_SECONDS)
