"""Sinks of destinations that acknowledge, as processes on a real Kafka that are killed while they write."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.etcd import LocalEtcd
from tests.documents import document_id
from tests.etcd_client import EtcdClient
from tests.flows import rows
from tests.sink_process import SECONDS, produce, sink_process, write_config
from tests.zeromq_peer import ZeroMqPeer, eventually

CONTENT = rows(blobs=8, records=20, tuples=20)
IDS = {document_id(values) for values in CONTENT}


def _is_killed_and_continues(config: Path, name: str, ids: Callable[[], set[str]]) -> None:
    """Kill a sink when it has written some rows, start it again until all are there, and stop it."""
    with sink_process(config, name) as process:
        eventually(lambda: bool(ids()))
        process.kill()
        assert process.wait(SECONDS) == -signal.SIGKILL
    with sink_process(config, name) as process:
        eventually(lambda: ids() == IDS)
        process.terminate()
        assert process.wait(SECONDS) == 0, (config.parent / "sink.log").read_text()


@pytest.mark.kafka
@pytest.mark.zeromq
def test_a_dealer_that_is_killed_sends_every_row(
    kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path, zeromq_peers: dict[str, ZeroMqPeer]
) -> None:
    """SIGKILL while rows are sent costs none: what was not acknowledged, or not committed, comes again."""
    peer = zeromq_peers["dealer"]
    since = peer.size
    options: dict[str, Any] = {"endpoints": peer.url, "batch": {"messages": 3}}
    config = write_config(tmp_path / "config.yaml", kafka_settings, topics, {"zeromq": options})
    produce(kafka_settings, topics.flows, CONTENT)
    _is_killed_and_continues(config, "zeromq", lambda: {one.header["id"] for one in peer.received(since)})


@pytest.mark.kafka
@pytest.mark.etcd
def test_an_etcd_sink_that_is_killed_writes_every_row_once(
    kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path, etcd_server: LocalEtcd
) -> None:
    """SIGKILL between transactions and commit leaves each row as one key, put once."""
    prefix, client = f"/kills/{uuid4().hex}", EtcdClient(etcd_server.url)
    options: dict[str, Any] = {"hosts": etcd_server.url, "prefix": prefix, "key": "{position}", "batch": {"messages": 3}}
    config = write_config(tmp_path / "config.yaml", kafka_settings, topics, {"etcd": options})
    produce(kafka_settings, topics.flows, CONTENT)
    _is_killed_and_continues(config, "etcd", lambda: {entry.key.rpartition("/")[2] for entry in client.entries(f"{prefix}/")})
    assert {entry.version for entry in client.entries(f"{prefix}/")} == {1}
