"""The collector as a process, on a real Kafka: requests from the command line, answers as rows, killed in the middle."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from libs.common.kafka.records import Inbound
from libs.common.rows.reading import reader_of
from libs.common.rows.types.resource_changes import RESOURCE_CHANGES
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.demo.arm.server import IDENTITY_HEADER, SUBSCRIPTION, ArmWorld, serving_arm, throttled
from libs.local.ports import free_port
from services.cli.main import blobtide
from services.collector.progress import decode_progress
from tests.collection_api import TOKEN
from tests.collector_world import LIST, one, request, rows_in
from tests.http_wire import WireAnswer, ask
from tests.queue_writer import QueueWriter, settings_of
from tests.running import until
from tests.service_process import service_process
from tests.topic_tools import committed_records, lag, read_compacted

pytestmark = [pytest.mark.kafka, pytest.mark.azurite]

PAGES = 15


@pytest.fixture
def settings(kafka_settings: KafkaSettings, topics: TopicSettings) -> dict[str, Any]:
    """Settings of a collector; the address of Azure is still missing."""
    kafka = {
        "bootstrap_servers": kafka_settings.bootstrap_servers,
        "group_prefix": kafka_settings.group_prefix,
        "session_timeout_ms": 6_000,
        "transaction_timeout_ms": 10_000,
    }
    return {"kafka": kafka, "topics": topics.model_dump(), "collector": {"commit_seconds": 0.001, "concurrency": 2}}


def test_each_request_is_answered_once_however_often_the_collector_is_killed(
    settings: dict[str, Any],
    kafka_settings: KafkaSettings,
    topics: TopicSettings,
    queue: QueueWriter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before and after a commit; requests come from commands, a queue and a schedule, and one that comes again does nothing."""

    def rows() -> list[dict[str, Any]]:
        return rows_in([record.value for record in committed_records(kafka_settings, topics.collection_results)])

    def ends() -> dict[str, tuple[str, int]]:
        return {row["source"]: (row["status"], row["received"]) for row in rows() if row["kind"] == "end"}

    arm = ArmWorld(machines=4 * PAGES, page_size=4)
    arm.faults.extend([None, throttled("1"), None])
    with serving_arm(arm) as url:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", IDENTITY_HEADER)
        once = {"every_minutes": 1_000_000, "offset_minutes": (time.time() // 60 - 1) % 1_000_000}
        ever = {"name": "ever", "templates": ["vms"], "subscriptions": [SUBSCRIPTION], **once}
        requests = settings_of(queue) | {"poll_seconds": 0.2, "visibility_seconds": 5}
        settings["collector"] |= {"management_url": url, "queue": requests, "schedules": [ever]}
        config, file = tmp_path / "blobtide.yaml", tmp_path / "requests.json"
        config.write_text(yaml.safe_dump(settings))
        file.write_bytes(request("m-1", LIST, one("vm-000003"), one("nobody")))
        made = send(config, "--template", "vms", "--template", "graph", "--subscription", SUBSCRIPTION)
        send(config, str(file))
        poison = filled(queue, file.read_bytes())
        for point in ("collector.queue-written", "collector.answered@3", "collector.committed@3"):
            with service_process("collector", settings, tmp_path, crash=point) as child:
                assert child.wait(90) == -9, point
        send(config, str(file))
        with service_process("collector", settings, tmp_path) as child:
            until(lambda: len(ends()) == 7, "every call ends")
            until(lambda: queue.count() == 0, "every message is deleted")
            until(lambda: lag(kafka_settings, "collector", topics.collection_requests) == 0, "every request is over")
            arm.size = "Standard_D4s_v5"
            queue.put(request("m-3", one("vm-000005")).decode())
            until(lambda: len(ends()) == 8, "the last call ends")
            child.terminate()
            assert child.wait(30) == 0
    (by_clock,) = {row["message_id"] for row in rows() if row["message_id"].startswith("ever:")}
    assert ends() == {
        f"{by_clock}/0": ("success", 60),
        f"{made}/0": ("success", 60), f"{made}/1": ("success", 60),
        "m-1/0": ("success", 60), "m-1/1": ("success", 1), "m-1/2": ("error", 0), "m-2/0": ("success", 1),
        "m-3/0": ("success", 1),
    }  # fmt: skip
    found = rows()
    positions = [(row["source"], row["generation"], row["answer_number"], row["part"]) for row in found]
    assert len(positions) == len(set(positions)) == 4 * (PAGES + 1) + 2 + 1 + 2 + 2
    for source in (f"{made}/0", f"{made}/1", "m-1/0", f"{by_clock}/0"):
        names = [f"vm-{index:06}" for index in range(4 * PAGES)]
        assert names_in(found, source) == names, "in order, none missing, none twice"
    letters = {record.value for record in committed_records(kafka_settings, topics.errors)}
    assert letters == {b"<xml>"}, "it may be there twice: the collector died before its message was deleted"
    assert poison.count() in {1, 2}, "likewise"
    resources = [record.key or b"" for record in committed_records(kafka_settings, topics.resources)]
    assert len(resources) == len(set(resources)) + 1 == 4 * PAGES + 1, "one of them has changed"
    changes = sorted(changes_in(committed_records(kafka_settings, topics.resource_changes)), key=str)
    size = ("vm-000005", "changed", "/properties/hardwareProfile/vmSize", '"Standard_D2s_v5"', '"Standard_D4s_v5"')
    assert changes == sorted([size, *((name, "created", None, None, None) for name in names)], key=str)
    assert all(key.startswith(f"/subscriptions/{SUBSCRIPTION}/resourcegroups/group-".encode()) for key in resources)
    state = {record.key: record for record in read_compacted(kafka_settings, topics.collection_state, range(4))}
    assert {key: is_over(record) for key, record in state.items()} == dict.fromkeys(
        [made.encode(), by_clock.encode(), b"m-1", b"m-2", b"m-3"], True
    )
    assert "token-1" not in (tmp_path / "collector-0.log").read_text()


def filled(queue: QueueWriter, requests: bytes) -> QueueWriter:
    """Put a request, `requests` and what is none into a queue; return its poison queue."""
    queue.put(request("m-2", one("vm-000004")).decode())
    queue.put(base64.b64encode(requests).decode())
    queue.put("<xml>")
    poison = QueueWriter(queue.storage, f"{queue.name}-poison", queue.pool)
    poison.create()
    return poison


def names_in(found: list[dict[str, Any]], source: str) -> list[str]:
    """Return the names of machines in the answers to a call, in order."""
    bodies = [json.loads(row["data"]) for row in found if row["source"] == source and row["kind"] == "answer"]
    return [machine["name"] for body in bodies for machine in body.get("value", body.get("data"))]


def changes_in(records: list[Inbound]) -> Iterator[tuple[Any, ...]]:
    """Yield name, change, path, old and new value of all changes of resources."""
    read = reader_of(RESOURCE_CHANGES, lambda _: "id")
    for record in records:
        for row in read(record).to_pylist():
            yield tuple(row[name] for name in ("name", "change", "path", "old", "new"))


def is_over(record: Inbound) -> bool:
    """Return whether a record of the state says that its request is over."""
    return decode_progress(record.value or b"").is_over


def send(config: Path, *words: str) -> str:
    """Send requests; return the id of the last one."""
    done = CliRunner().invoke(blobtide, ("collect", *words, "--config", str(config)))
    assert done.exit_code == 0, done.exception
    return done.stdout.splitlines()[-1]


def test_requests_are_taken_over_http_and_every_collector_tells_how_far_they_have_come(
    settings: dict[str, Any],
    kafka_settings: KafkaSettings,
    topics: TopicSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever accepted one, and whoever works on it; an id that is repeated at another collector does nothing."""
    ports = free_port(), free_port()
    token = {"Authorization": f"Bearer {TOKEN}"}

    def progress(port: int, message_id: str) -> Any:
        answers: list[WireAnswer] = []

        def is_told() -> bool:
            answers.append(ask(port, "GET", f"/collections/{message_id}", None, **token))
            return answers[-1].status != 503

        until(is_told, "Kafka tells")
        assert answers[-1].status == 200, answers[-1]
        return answers[-1].json

    with serving_arm(ArmWorld(machines=10, page_size=4)) as url, ExitStack() as stack:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", IDENTITY_HEADER)
        for ordinal, port in enumerate(ports):
            own = settings["collector"] | {"management_url": url, "api": {"port": port, "token": TOKEN}}
            stack.enter_context(service_process("collector", settings | {"collector": own}, tmp_path, ordinal))
        for port in ports:
            until(lambda port=port: knows_all(port, token), f"the API at {port} knows what there is")  # type: ignore[misc]
        ids = [f"m-{number}" for number in range(6)]
        for number, message_id in enumerate(ids):
            body = request(message_id, LIST, one("nobody"))
            port, other = ports[number % 2], ports[1 - number % 2]
            accepted = ask(port, "POST", "/collections", body, Content_Type="application/json", **token)
            assert (accepted.status, accepted.json["repeated"]) == (202, False)
            assert progress(other, message_id)["calls_total"] == 2, "it is known as soon as it is accepted"
            repeated = ask(other, "POST", "/collections", body, Content_Type="application/json", **token)
            assert (repeated.status, repeated.json) == (200, {"id": message_id, "repeated": True})
        for port in ports:
            until(lambda port=port: all(progress(port, one)["state"] == "done" for one in ids), "all is done")  # type: ignore[misc]
        found = progress(ports[0], "m-0")
        assert ask(ports[0], "POST", "/collections", b"{}", Authorization="Bearer wrong").status == 401
    assert (found["status"], [(call["status"], call["received"]) for call in found["calls"]]) == (
        "partial_failure", [("success", 10), ("error", 0)]
    )  # fmt: skip
    assert found["calls"][1]["error"]["code"] == "ResourceNotFound"
    rows = rows_in([record.value for record in committed_records(kafka_settings, topics.collection_results)])
    assert sorted(row["source"] for row in rows if row["kind"] == "end") == [f"{own}/{call}" for own in ids for call in (0, 1)]
    assert len(committed_records(kafka_settings, topics.collection_requests)) == len(ids)
    for ordinal in range(2):
        assert TOKEN not in (tmp_path / f"collector-{ordinal}.log").read_text()


def knows_all(port: int, token: dict[str, str]) -> bool:
    """Return whether an API is there, and knows which requests there are."""
    try:
        return ask(port, "GET", "/collections/none", None, **token).status == 404
    except OSError:
        return False
