"""`blobtide topics apply --wait` while Kafka is not there yet."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import yaml
from confluent_kafka.admin import AdminClient

from libs.common.kafka.topics.admin import partition_count
from libs.common.settings.kafka import KafkaSettings
from libs.local.kafka import LocalKafka


@pytest.mark.kafka
def test_apply_waits_for_kafka(kafka: LocalKafka, kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Started before the broker, it applies the topics as soon as the broker answers."""
    name = f"Waited.{uuid.uuid4().hex[:8]}"
    config, file = tmp_path / "config.yaml", tmp_path / "topics.yaml"
    servers = kafka_settings.bootstrap_servers
    config.write_text(yaml.safe_dump({"kafka": {"bootstrap_servers": servers}, "topics": {"blobs": name}}))
    file.write_text(yaml.safe_dump({"topics": {"blobs": {"partitions": 2}}}))
    options = ("--config", str(config), "--file", str(file))
    kafka.stop()
    with subprocess.Popen((sys.executable, "-m", "services.cli.main", "topics", "apply", "--wait", "60", *options)) as applying:
        try:
            kafka.start()
            assert applying.wait(60) == 0
            assert partition_count(kafka_settings, name) == 2
        finally:
            applying.kill()
    admin = AdminClient({"bootstrap.servers": servers})
    admin.delete_topics([name])[name].result(30)


def test_apply_gives_up_after_the_wait() -> None:
    """Without a broker it ends with 3 and says where it looked."""
    words = ("topics", "apply", "--wait", "0.2", "--bootstrap-servers", "127.0.0.1:9")
    command = (sys.executable, "-m", "services.cli.main", *words)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "127.0.0.1:9" in done.stderr
