"""Local servers: they answer, come back on the same port with their data, and never outlive their parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis
import urllib3
from azure.storage.blob import BlobServiceClient
from confluent_kafka.admin import AdminClient

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.azurite import LocalAzurite
from libs.local.errors import ServerFailed
from libs.local.kafka import LocalKafka
from libs.local.opensearch import LocalOpenSearch
from libs.local.process import Launch, LocalServer
from libs.local.redis import LocalRedis
from tests.processes import below, command_of, is_alive

ROOT = Path(__file__).parents[2]
SECONDS = 30.0


def _eventually(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.kafka
def test_kafka_comes_back_with_its_topics(kafka: LocalKafka, kafka_settings: KafkaSettings, topics: TopicSettings) -> None:
    """A killed Kafka is back on the same port, with its topics."""
    kafka.kill()
    kafka.start()
    found = AdminClient({"bootstrap.servers": kafka_settings.bootstrap_servers}).list_topics(timeout=SECONDS).topics
    assert {len(found[topic].partitions) for topic in topics.model_dump().values()} == {4}


@pytest.mark.azurite
def test_azurite_comes_back_with_its_blobs(azurite: LocalAzurite, container: str) -> None:
    """A stopped Azurite is back on the same port, with the blob written just before."""
    with BlobServiceClient.from_connection_string(azurite.connection_string, use_env_settings=False) as service:
        blob = service.get_blob_client(container, "a")
        blob.upload_blob(b"content")
        azurite.stop()
        azurite.start()
        assert blob.download_blob().readall() == b"content"


@pytest.mark.redis
def test_redis_comes_back_with_its_keys(redis_server: LocalRedis) -> None:
    """A killed Redis is back on the same port, with the key written just before."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.set("kept", "value")
        redis_server.kill()
        redis_server.start()
        assert client.getdel("kept") == b"value"


@pytest.mark.opensearch
def test_opensearch_comes_back_with_its_documents(opensearch: LocalOpenSearch) -> None:
    """A killed OpenSearch is back on the same port, with the document indexed just before."""
    document = f"{opensearch.url}/kept/_doc/1"
    with urllib3.PoolManager() as http:
        assert http.request("PUT", document, json={"a": 1}).status == 201
        opensearch.kill()
        opensearch.start()
        assert http.request("GET", document).json()["_source"] == {"a": 1}
        assert http.request("DELETE", f"{opensearch.url}/kept").status == 200


@pytest.mark.redis
def test_a_server_dies_with_its_parent(tmp_path: Path, redis_server: LocalRedis) -> None:
    """When the process that started a server is killed, the server is gone soon, without anybody's help."""
    code = (
        "import pathlib, sys, time; from libs.local.redis import LocalRedis;"
        "server = LocalRedis(pathlib.Path(sys.argv[1])); server.start(); print('up', flush=True); time.sleep(600)"
    )
    argv = (sys.executable, "-c", code, str(tmp_path))
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        servers = below(parent.pid)
        assert any(str(tmp_path) in command_of(process) for process in servers)
        parent.kill()
    _eventually(lambda: not any(is_alive(process) for process in servers))


class _Script(LocalServer):
    """A server that is a line of shell."""

    name = "script"
    line = ""
    seconds = SECONDS

    @classmethod
    def install(cls) -> None:
        """Need nothing."""

    def _launch(self) -> Launch:
        return Launch(("sh", "-c", self.line), ready=lambda: "ready" in self.output(), seconds=self.seconds)


def test_a_server_that_ends_at_once_shows_why(tmp_path: Path) -> None:
    """A server that does not come up is reported with its exit code and the end of its log."""
    server = _Script(tmp_path)
    server.line = "echo no space left; exit 7"
    with pytest.raises(ServerFailed, match=r"script ended with exit code 7; the end of .*script.log:\n  no space left"):
        server.start()
    assert not server.running


def test_a_server_that_never_gets_ready_is_killed(tmp_path: Path) -> None:
    """A server that is not ready in time is reported, and nothing of it remains."""
    server = _Script(tmp_path)
    server.line = f"echo $$ > {tmp_path}/pid; exec sleep 600"
    server.seconds = 5.0
    with pytest.raises(ServerFailed, match="was not ready after"):
        server.start()
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`stop` ends a server that does not want to end."""
    monkeypatch.setattr("libs.local.process.STOP_SECONDS", 0.1)
    server = _Script(tmp_path)
    server.line = f"trap '' TERM; echo $$ > {tmp_path}/pid; echo ready; while :; do sleep 1; done"
    server.start()
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, 0)
    server.stop()
    assert not psutil.pid_exists(pid)
