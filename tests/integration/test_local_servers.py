"""Local servers: they answer, come back on the same port with their data, and never outlive their parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import paho.mqtt.client as mqtt
import psutil
import psycopg
import pytest
import redis
import urllib3
from azure.storage.blob import BlobServiceClient
from confluent_kafka.admin import AdminClient
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.azurite import LocalAzurite
from libs.local.clickhouse import LocalClickHouse
from libs.local.errors import ServerFailed
from libs.local.etcd import LocalEtcd
from libs.local.kafka import LocalKafka
from libs.local.mosquitto import LocalMosquitto, Rules
from libs.local.opensearch import LocalOpenSearch
from libs.local.ports import accepts
from libs.local.postgres import ADMIN, LocalPostgres
from libs.local.process import Launch, LocalServer
from libs.local.redis import LocalRedis
from libs.local.snowflake import LocalSnowflake
from tests.certificates import server_tls
from tests.etcd_client import EtcdClient
from tests.processes import below, command_of, is_alive
from tests.snowflake_tables import ask

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


def _ask(server: LocalClickHouse, query: str, body: bytes = b"", **parameters: str) -> tuple[int, str]:
    with urllib3.PoolManager() as http:
        answer = http.request("POST", f"{server.url}/?{urlencode({'query': query} | parameters)}", body=body)
    return answer.status, answer.data.decode().strip()


@pytest.mark.clickhouse
def test_clickhouse_comes_back_with_its_rows_and_tokens(clickhouse: LocalClickHouse) -> None:
    """A killed ClickHouse is back on the same port, with the rows inserted just before, and knows their token."""
    settings = "SETTINGS non_replicated_deduplication_window = 10"
    _ask(clickhouse, f"CREATE TABLE kept (n UInt8) ENGINE = MergeTree ORDER BY n {settings}")
    insert, token = "INSERT INTO kept FORMAT CSV", {"insert_deduplication_token": "a"}
    assert _ask(clickhouse, insert, b"7\n", **token) == (200, "")
    clickhouse.kill()
    clickhouse.start()
    assert _ask(clickhouse, insert, b"7\n", **token) == (200, "")
    assert _ask(clickhouse, "SELECT count() FROM kept") == (200, "1")
    assert _ask(clickhouse, "DROP TABLE kept") == (200, "")


@pytest.mark.clickhouse
def test_clickhouse_answers_errors_as_the_server_does(clickhouse: LocalClickHouse) -> None:
    """An error has a status, its code in a header, and its code and text in the body; settings are a request's own."""
    with urllib3.PoolManager() as http:
        answer = http.request("POST", clickhouse.url, body=b"SELECT * FROM nowhere")
    assert answer.status == 404
    assert answer.headers["X-ClickHouse-Exception-Code"] == "60"
    assert answer.data.startswith(b"Code: 60. DB::Exception: Unknown table")
    assert _ask(clickhouse, "SELECT getSetting('max_threads')", max_threads="3") == (200, "3")
    assert _ask(clickhouse, "SELECT getSetting('max_threads') = 3") == (200, "0")
    assert _ask(clickhouse, "SELECT 1", no_such_setting="1")[0] == 404


@pytest.mark.clickhouse
@pytest.mark.parametrize(("password", "status", "begins"), [("se'cret", 200, "1"), ("other", 403, "Code: 516")])
def test_clickhouse_asks_for_its_login_over_tls(password: str, status: int, begins: str, tmp_path: Path) -> None:
    """With a login and a certificate, ClickHouse speaks TLS and refuses everybody else."""
    server = LocalClickHouse(tmp_path / "server", login=("writer", "se'cret"), tls=server_tls(tmp_path))
    headers = {"X-ClickHouse-User": "writer", "X-ClickHouse-Key": password}
    server.start()
    try:
        with urllib3.PoolManager(ca_certs=str(tmp_path / "ca.pem")) as http:
            answer = http.request("POST", server.url, body=b"SELECT 1", headers=headers)
        assert answer.status == status
        assert answer.data.decode().startswith(begins)
    finally:
        server.kill()


@pytest.mark.etcd
def test_etcd_comes_back_with_its_keys(etcd_server: LocalEtcd) -> None:
    """A killed etcd is back on the same port, with the key put just before."""
    client = EtcdClient(etcd_server.url)
    client.ask("/kv/put", key="a2VwdA==", value="dmFsdWU=")
    etcd_server.kill()
    etcd_server.start()
    assert [entry.value for entry in client.entries("kept")] == [b"value"]
    client.ask("/kv/deleterange", key="a2VwdA==")


@pytest.mark.mosquitto
@pytest.mark.parametrize("protocol", [MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311])
def test_mosquitto_asks_for_its_login_over_tls(protocol: MQTTProtocolVersion, tmp_path: Path) -> None:
    """With a login and a certificate, Mosquitto speaks TLS in both versions of MQTT and refuses everybody else."""
    rules = Rules(login=("writer", "se'cret"), tls=server_tls(tmp_path))
    server = LocalMosquitto(tmp_path / "server", rules=rules)
    server.start()
    try:
        assert [_connects(server, protocol, tmp_path, password) for password in ("se'cret", "other")] == [True, False]
    finally:
        server.kill()


def _connects(server: LocalMosquitto, protocol: MQTTProtocolVersion, directory: Path, password: str) -> bool:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=protocol, reconnect_on_failure=False)
    client.username_pw_set("writer", password)
    client.tls_set(str(directory / "ca.pem"))
    answers: list[bool] = []
    client.on_connect = lambda *arguments: answers.append(not arguments[3].is_failure)
    client.connect("127.0.0.1", server.port)
    _eventually(lambda: client.loop(0.1) != MQTTErrorCode.MQTT_ERR_SUCCESS or bool(answers))
    client.disconnect()
    client.loop(0.1)
    return answers == [True]


@pytest.mark.postgres
def test_postgres_comes_back_with_its_rows(postgres: LocalPostgres) -> None:
    """A killed PostgreSQL is back on the same port, with the row committed just before, though a session was open."""
    login: dict[str, Any] = {"host": "127.0.0.1", "user": ADMIN, "dbname": "postgres"}
    with psycopg.connect(**login, port=postgres.port, autocommit=True) as client:
        client.execute("CREATE TABLE kept AS SELECT 7 AS n")
        postgres.kill()
        assert not accepts(postgres.port)
        postgres.start()
    with psycopg.connect(**login, port=postgres.port, autocommit=True) as client:
        assert client.execute("SELECT n FROM kept").fetchall() == [(7,)]
        assert client.execute("SHOW fsync").fetchall() == [("on",)]
        client.execute("DROP TABLE kept")


@pytest.mark.snowflake
def test_snowflake_comes_back_with_its_rows(snowflake: LocalSnowflake) -> None:
    """A killed Snowflake is back on the same port, with the row committed just before; sessions are not."""
    ask(snowflake, "CREATE TABLE KEPT (N NUMBER(5,0))", "INSERT INTO KEPT VALUES (7)")
    snowflake.kill()
    assert not accepts(snowflake.port)
    snowflake.start()
    assert ask(snowflake, "SELECT N FROM KEPT") == [{"n": 7}]
    ask(snowflake, "DROP TABLE KEPT")


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
