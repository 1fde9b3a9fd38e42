"""The declaration of topics."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.common.errors import ConfigError
from libs.common.kafka.topics.topic_specs import load_topic_specs
from libs.common.settings.kafka import TopicSettings


def test_topics_joined_by_position_have_equal_partitions() -> None:
    """In blobtide's own declaration a blob is on the same partition number wherever topics are joined by position."""
    specs = {spec.field: spec for spec in load_topic_specs()}
    assert specs["blobs"].partitions == specs["blob_state"].partitions == specs["checkpoints"].partitions
    assert specs["raw_flow_logs"].partitions == specs["flows"].partitions
    assert specs["blob_state"].config["cleanup.policy"] == "compact"
    assert specs["checkpoints"].config["cleanup.policy"] == "compact,delete"
    assert specs["flows"].name(TopicSettings(flows="Other")) == "Other"


def test_replication_decides_how_many_replicas_must_have_a_record() -> None:
    """With three replicas two must have a record; with one, one."""
    assert {spec.config["min.insync.replicas"] for spec in load_topic_specs(replication_factor=3)} == {"2"}
    assert {spec.config["min.insync.replicas"] for spec in load_topic_specs()} == {"1"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("topics: {blob: {}}", "unknown topic blob; known topics are blobs"),
        ("topics: {blobs: {partitons: 3}}", r"topics\.blobs\.partitons"),
        ("joined_by_position: [[blobs, flows]]\ntopics: {blobs: {partitions: 2}, flows: {}}", "blobs 2, flows 6"),
        ("- a", "not a topic declaration"),
        ("topics: {blobs: [", "not a topic declaration"),
    ],
)
def test_a_wrong_declaration_is_one_line_that_says_where(tmp_path: Path, text: str, problem: str) -> None:
    """Unknown names, unequal partitions and broken YAML are refused in one line that names the file."""
    file = tmp_path / "topics.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=problem) as caught:
        load_topic_specs(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
