"""`blobtide topics` against a real Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from confluent_kafka.admin import AdminClient

from libs.common.kafka.topics.admin import ChangeKind, apply_topics, load_topic_specs, partition_count, plan_topics
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from services.cli.broker.topics import command

pytestmark = pytest.mark.kafka


def _topics(arguments: list[str], folder: Path, blobs: str, declared: dict[str, object], **more: object) -> Result:
    config, file = folder / "config.yaml", folder / "topics.yaml"
    config.write_text(yaml.safe_dump({"topics": {"blobs": blobs}}))
    file.write_text(yaml.safe_dump({"topics": {"blobs": declared}, **more}))
    return CliRunner().invoke(command, [*arguments, "--config", str(config), "--file", str(file)])


def test_apply_creates_alters_and_grows_and_diff_says_so(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """What differs is made so, but nothing shrinks or leaves what it is joined to; exit codes say if anything is left."""
    name = f"Renamed.{uuid.uuid4().hex[:8]}"
    servers = ["--bootstrap-servers", kafka_settings.bootstrap_servers]

    def topics(verb: str, declared: dict[str, object], options: Sequence[str] = (), **more: object) -> Result:
        return _topics([verb, *servers, *options], tmp_path, name, declared, **more)

    small: dict[str, object] = {"partitions": 2, "config": {"retention.ms": 1_000_000}}
    large: dict[str, object] = {"partitions": 3, "config": {"retention.ms": 2_000_000}}
    try:
        before = topics("diff", small)
        assert before.exit_code == 1
        assert f"+ {name}: create: 2 partitions" in before.output
        assert topics("apply", small).exit_code == 0
        assert topics("diff", small).exit_code == 0
        joined = topics("apply", {"partitions": 3}, joined_by_position=[["blobs", "checkpoints"]])
        assert "declare 2, or start over" in joined.output
        assert joined.exit_code == 1
        assert partition_count(kafka_settings, name) == 2
        grown = topics("apply", large)
        assert grown.exit_code == 0
        assert "partitions 2 -> 3" in grown.output
        assert "retention.ms 1000000 -> 2000000" in grown.output
        assert partition_count(kafka_settings, name) == 3
        shrunk = topics("apply", small)
        assert "Kafka cannot remove partitions" in shrunk.output
        assert "1 left for you to resolve; nothing was deleted or shrunk" in shrunk.output
        assert shrunk.exit_code == 1
        assert topics("apply", small, options=["--lenient"]).exit_code == 0
        assert partition_count(kafka_settings, name) == 3
    finally:
        admin = AdminClient({"bootstrap.servers": kafka_settings.bootstrap_servers})
        admin.delete_topics([name])[name].result(30)


def test_blobtides_own_declaration_is_accepted_by_kafka(kafka_settings: KafkaSettings) -> None:
    """Every topic and option of topics.yaml is created as declared, and then nothing differs."""
    suffix = uuid.uuid4().hex[:8]
    names = TopicSettings(**{field: f"{name}.{suffix}" for field, name in TopicSettings().model_dump().items()})
    specs = load_topic_specs()
    assert {spec.field for spec in specs} == set(TopicSettings.model_fields)
    try:
        assert {change.kind for change in apply_topics(kafka_settings, names, specs)} == {ChangeKind.CREATE}
        assert plan_topics(kafka_settings, names, specs) == []
    finally:
        admin = AdminClient({"bootstrap.servers": kafka_settings.bootstrap_servers})
        for future in admin.delete_topics(list(names.model_dump().values())).values():
            future.result(30)
