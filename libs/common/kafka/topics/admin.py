"""Inspect topics, and make them match their declaration in ``deploy/topics.yaml``.

Topics are created, their configuration is altered, and partitions are added unless the topic is joined with others by partition
number. Nothing is ever deleted or shrunk, and replication is never changed: such differences are reported and left to the
operator.
Services never call `apply_topics`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from libs.common.errors import BlobtideError, ConfigError, ServerUnreachable
from libs.common.kafka.client.configs import ANSWER_SECONDS, answer_of, check_reachable, make_admin, missing_topic
from libs.common.kafka.client.failures import error_of, translated
from libs.common.kafka.group.partners import TOGETHER
from libs.common.kafka.topics.topic_specs import TopicSpec, load_topic_specs
from libs.common.settings.kafka import KafkaSettings, TopicSettings

__all__ = [
    "ChangeKind",
    "TopicChange",
    "TopicSpec",
    "apply_topics",
    "check_topics",
    "load_topic_specs",
    "partition_count",
    "plan_topics",
]


class ChangeKind(StrEnum):
    """The kind of difference."""

    CREATE = "create"
    ADD_PARTITIONS = "add partitions"
    ALTER = "alter"
    REFUSED = "refused"  # would delete or move data: left to the operator


@dataclass(frozen=True, slots=True)
class TopicChange:
    """One difference between a declared topic and the actual one."""

    kind: ChangeKind
    topic: str
    text: str
    spec: TopicSpec
    config: tuple[tuple[str, str], ...] = ()


def partition_count(kafka: KafkaSettings, topic: str) -> int:
    """Return the number of partitions of `topic`.

    Raises:
        ServerUnreachable: if Kafka does not respond.
        ConfigError: if the topic does not exist.
    """
    check_reachable(kafka)
    admin = make_admin(kafka)
    found = _present(admin).get(topic)
    if found is None:
        raise missing_topic(admin, topic)
    return len(found.partitions)


def check_partners(kafka: KafkaSettings, topics: Sequence[str], partners: Sequence[str]) -> None:
    """Check that each partition of `topics` has one of the same number in all `partners`.

    Raises:
        ServerUnreachable: if Kafka does not respond.
        ConfigError: if a partner has fewer partitions than a topic, or one of them does not exist.
    """
    counts = {name: partition_count(kafka, name) for name in (*topics, *partners)}
    if max(counts[name] for name in topics) > min(counts.values()):
        raise ConfigError(f"{TOGETHER}: {counts}")


def check_topics(kafka: KafkaSettings, topics: TopicSettings, specs: Sequence[TopicSpec]) -> None:
    """Check that all topics in `specs` exist, and that joined topics have the same number of partitions.

    Raises:
        ServerUnreachable: if Kafka does not respond.
        ConfigError: if topics do not exist or do not match each other.
    """
    check_reachable(kafka)
    names = {spec.field: spec.name(topics) for spec in specs}
    admin = make_admin(kafka)
    counts = {name: len(found.partitions) for name, found in _present(admin).items()}
    if missing := [name for name in names.values() if name not in counts]:
        if not isinstance(error := missing_topic(admin, missing[0]), ConfigError):
            raise error
        raise ConfigError(f"missing topics: {', '.join(missing)}; run `blobtide topics apply`")
    for group in sorted({spec.joined for spec in specs}):
        joined = {names[field]: counts[names[field]] for field in group if field in names}
        if len(set(joined.values())) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in joined.items())
            raise ConfigError(f"{TOGETHER}: {listed}")


def plan_topics(kafka: KafkaSettings, topics: TopicSettings, specs: Sequence[TopicSpec]) -> list[TopicChange]:
    """Return how the broker differs from `specs`, with the topic names in `topics`.

    Raises:
        ServerUnreachable: if Kafka does not respond.
    """
    check_reachable(kafka)
    admin = make_admin(kafka)
    present = _present(admin)
    named = [(spec.name(topics), spec) for spec in specs]
    configs = _configs(admin, [name for name, _ in named if name in present])
    changes = []
    for name, spec in named:
        if name in present:
            changes += _differences(name, spec, present[name], configs[name])
        else:
            text = f"{spec.partitions} partitions, replication {spec.replication_factor}, {_listed(spec.config)}"
            changes.append(TopicChange(ChangeKind.CREATE, name, text, spec))
    return changes


def apply_topics(kafka: KafkaSettings, topics: TopicSettings, spec: Sequence[TopicSpec]) -> list[TopicChange]:
    """Make the topics match `spec` and wait until they do; return the differences found.

    Raises:
        ServerUnreachable: if Kafka does not respond.
        BlobtideError: if Kafka refuses a change; the message names it.
    """
    changes = plan_topics(kafka, topics, spec)
    admin = make_admin(kafka)
    for change in changes:
        _make_so(admin, change)
    wait_for(admin, [change.topic for change in changes if change.kind is ChangeKind.CREATE])
    return changes


def _present(admin: AdminClient) -> Mapping[str, Any]:
    try:
        topics: Mapping[str, Any] = admin.list_topics(timeout=ANSWER_SECONDS).topics
    except KafkaException as error:
        raise translated(error_of(error), "listing topics") from error
    return topics


def _configs(admin: AdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    answers = admin.describe_configs(resources, request_timeout=ANSWER_SECONDS)
    return {
        resource.name: {entry.name: str(entry.value) for entry in answer_of(future, f"describing {resource.name}").values()}
        for resource, future in answers.items()
    }


def _differences(name: str, spec: TopicSpec, found: Any, config: Mapping[str, str]) -> list[TopicChange]:
    changes = []
    count = len(found.partitions)
    if count < spec.partitions and spec.joined:
        text = (
            f"has {count} partitions, {spec.partitions} declared; adding partitions would separate blobs from their "
            f"checkpoints and from the state of sinks: declare {count}, or start over with other topic names"
        )
        changes.append(TopicChange(ChangeKind.REFUSED, name, text, spec))
    elif count < spec.partitions:
        text = f"partitions {count} -> {spec.partitions}; new records will be keyed to other partitions"
        changes.append(TopicChange(ChangeKind.ADD_PARTITIONS, name, text, spec))
    elif count > spec.partitions:
        text = f"has {count} partitions, {spec.partitions} declared; Kafka cannot remove partitions"
        changes.append(TopicChange(ChangeKind.REFUSED, name, text, spec))
    replicas = min(len(partition.replicas) for partition in found.partitions.values())
    if replicas != spec.replication_factor:
        text = f"has {replicas} replicas, {spec.replication_factor} declared; move replicas with Kafka's own tools"
        changes.append(TopicChange(ChangeKind.REFUSED, name, text, spec))
    wanted = tuple(sorted((key, value) for key, value in spec.config.items() if config.get(key) != value))
    if wanted:
        text = ", ".join(f"{key} {config.get(key, 'unset')} -> {value}" for key, value in wanted)
        changes.append(TopicChange(ChangeKind.ALTER, name, text, spec, wanted))
    return changes


def _make_so(admin: AdminClient, change: TopicChange) -> None:
    name, spec = change.topic, change.spec
    answers: Mapping[Any, Future[Any]]
    match change.kind:
        case ChangeKind.CREATE:
            topic = NewTopic(name, spec.partitions, spec.replication_factor, config=dict(spec.config))
            answers = admin.create_topics([topic], request_timeout=ANSWER_SECONDS, operation_timeout=ANSWER_SECONDS)
        case ChangeKind.ADD_PARTITIONS:
            answers = admin.create_partitions([NewPartitions(name, spec.partitions)], request_timeout=ANSWER_SECONDS)
        case ChangeKind.ALTER:
            answers = admin.incremental_alter_configs([_alteration(change)], request_timeout=ANSWER_SECONDS)
        case ChangeKind.REFUSED:
            return
    for future in answers.values():
        try:
            answer_of(future, f"{change.kind} of topic {name}")
        except BlobtideError as error:
            if not is_there_already(error.__cause__):
                raise


def is_there_already(cause: BaseException | None) -> bool:
    """Return whether another process that was applying the same change was faster."""
    return isinstance(cause, KafkaException) and error_of(cause).code() == KafkaError.TOPIC_ALREADY_EXISTS


def _alteration(change: TopicChange) -> ConfigResource:
    entries = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in change.config]
    return ConfigResource(ResourceType.TOPIC, change.topic, incremental_configs=entries)


def wait_for(admin: AdminClient, names: Sequence[str]) -> None:
    """Wait until every partition of `names` has a leader, so that services can start."""
    deadline = time.monotonic() + ANSWER_SECONDS
    missing = set(names)
    while missing:
        present = _present(admin)
        missing = {name for name in missing if not _led(present.get(name))}
        if missing and time.monotonic() > deadline:
            raise ServerUnreachable(f"topic {min(missing)} was created but has no leader; check the broker's log")
        if missing:
            admin.poll(0.1)


def _led(found: Any) -> bool:
    return found is not None and bool(found.partitions) and all(p.leader >= 0 for p in found.partitions.values())


def _listed(config: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(config.items()))
