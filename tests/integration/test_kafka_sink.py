"""The kafka sink where its promise is hard to keep: zombies, kills, records that are too large, topics that are others'."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.types.flows import FLOWS
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings
from libs.local.kafka import LocalKafka
from services.sinks.frame.contract import Outcome, Sink
from services.sinks.frame.registry import configured_sink
from tests.contract.harness import Case
from tests.contract.harnesses.kafka import KafkaHarness
from tests.flows import Spot, row

pytestmark = pytest.mark.kafka
ROOT = Path(__file__).parents[2]
CASE = Case("kafka", "transactional", FLOWS)
ROWS_A_BATCH = 3


@pytest.fixture
def target(kafka: LocalKafka) -> KafkaHarness:
    """Give an empty topic."""
    return KafkaHarness(CASE, kafka)


@pytest.fixture
def sinks(target: KafkaHarness) -> Iterator[list[Sink]]:
    """Give two open sinks that are the same one in two processes."""
    opened = [target.sink(), target.sink()]
    for sink in opened:
        sink.open()
    yield opened
    for sink in opened:
        sink.close()


def test_a_zombie_writes_nothing(target: KafkaHarness, sinks: list[Sink]) -> None:
    """A process that does not know that its shards have moved is fenced, and what it tries again is found written."""
    zombie, heir = sinks
    content = [row for row in CASE.rows(6) if CASE.shard_of(row) == 0]
    assert len(content) >= 24
    assert zombie.write(CASE.parts(content[:8])) == Outcome(8)
    assert heir.write(CASE.parts(content[:12])) == Outcome(4, 8)
    with pytest.raises(Retry):
        zombie.write(CASE.parts(content[8:16]))
    assert zombie.write(CASE.parts(content[8:16])) == Outcome(4, 4)
    with pytest.raises(Retry):
        heir.write(CASE.parts(content[12:]))
    assert heir.write(CASE.parts(content[12:])) == Outcome(len(content) - 16, 4)
    assert target.read() == target.expected(content)


def test_a_shard_that_comes_back_is_read_anew(target: KafkaHarness, sinks: list[Sink]) -> None:
    """What another process has written meanwhile is known to the one that gets its shards back."""
    one, other = sinks
    content = CASE.rows()
    one.write(CASE.parts(content[:10]))
    one.release({0, 1})
    other.write(CASE.parts(content[:25]))
    other.release({0, 1})
    assert one.write(CASE.parts(content)) == Outcome(len(content) - 25, 25)
    assert target.read() == target.expected(content)


def test_kills_in_the_middle_leave_each_row_once(target: KafkaHarness) -> None:
    """SIGKILL at any moment of writing, several times, and then the whole again: each row is there once, in order."""
    options = target.all_options() | {"cluster": {"bootstrap_servers": target.server.bootstrap_servers, "group_prefix": "kill"}}
    command = [sys.executable, "-m", "tests.contract.writer", "kafka", "flows", json.dumps(options), str(ROWS_A_BATCH)]
    committed = 0
    for goal in (1, 12, 24):
        with subprocess.Popen(command, cwd=ROOT, env=dict(os.environ)) as process:
            deadline = time.monotonic() + 60
            while len(target.read()) < goal and process.poll() is None:
                assert time.monotonic() < deadline
            process.send_signal(signal.SIGKILL)
        assert len(target.read()) >= committed
        committed = len(target.read())
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    assert target.read() == target.expected(CASE.rows())


@pytest.mark.parametrize("delivery", ["transactional", "idempotent"])
def test_a_record_that_is_too_large_is_refused_by_name(kafka: LocalKafka, delivery: str) -> None:
    """A row whose record no topic takes is a dead letter; its neighbours are written."""
    target = KafkaHarness(Case("kafka", delivery, FLOWS), kafka)
    content = CASE.rows()[:6]
    huge = row(Spot(9, 0, 0), rule="x" * 9_000_000)
    batch = [*content[:3], huge, *content[3:]]
    sink = target.sink()
    sink.open()
    try:
        outcome = _patient(sink, batch)
    finally:
        sink.close()
    (refused,) = outcome.rejected
    assert refused.code is ErrorCode.TOO_LARGE
    assert CASE.parts(batch)[refused.part].rows.column("blob")[refused.row].as_py() == huge["blob"]
    assert target.read() == target.expected(content)


def _patient(sink: Sink, content: list[Any]) -> Outcome:
    for _ in range(5):
        try:
            return sink.write(CASE.parts(content))
        except Retry as error:
            time.sleep(error.after)
    raise AssertionError("it never ends")


def test_no_row_chooses_a_topic_of_the_pipeline(target: KafkaHarness) -> None:
    """A value that spells the name of a topic of ours, or of Kafka's, leads nowhere."""
    options = target.all_options() | {"topic": "{rule}", "max_topics": 10}
    sink = configured_sink({"kafka": options}, "kafka", target.pipeline()).sink
    sink.open()
    try:
        names = ["Extracted.Flows", "__consumer_offsets", target.positions, "Errors", ".."]
        content = [row(Spot(0, 0, index), rule=name) for index, name in enumerate(names)]
        outcome = sink.write(CASE.parts([*content, row(Spot(0, 0, 9), rule=target.topic)]))
    finally:
        sink.close()
    assert [one.row for one in outcome.rejected] == list(range(len(names)))
    assert outcome.written == 1
    assert len(target.read()) == 1


@pytest.mark.parametrize("topic", ["Extracted.Flows", "Sinks.Positions", "__transaction_state", "a/b", "x" * 250])
def test_a_topic_that_is_not_for_rows_is_refused_at_the_start(topic: str) -> None:
    """Rows that went back into the pipeline would go round for ever."""
    with pytest.raises(ConfigError, match=r"sinks\.kafka\.topic: "):
        configured_sink({"kafka": {"topic": topic}}, "kafka", Settings())


def test_without_its_topic_of_positions_it_does_not_start(target: KafkaHarness) -> None:
    """The sink says what to run."""
    options = target.all_options() | {"positions_topic": f"{target.positions}.other"}
    with pytest.raises(ConfigError, match="run `blobtide sink-setup` with the name of this sink"):
        configured_sink({"kafka": options}, "kafka", target.pipeline()).sink.open()


def test_another_cluster_is_the_settings_own() -> None:
    """The target cluster has settings of its own, checked as those of `kafka`."""
    options = {"kafka": {"topic": "rows", "cluster": {"bootstrap_servers": "127.0.0.1:1"}}}
    with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:1"):
        configured_sink(options, "kafka", Settings(kafka=KafkaSettings())).sink.open()
    with pytest.raises(ConfigError, match=r"sinks\.kafka\.cluster\.bootstrap_server: unknown setting"):
        configured_sink({"kafka": {"topic": "rows", "cluster": {"bootstrap_server": "x"}}}, "kafka", Settings())


def test_secrets_of_the_other_cluster_are_read_by_the_check(tmp_path: Path) -> None:
    """A password file that is missing is said without connecting."""
    cluster = {"security_protocol": "SASL_SSL", "sasl_username": "u", "sasl_password_file": str(tmp_path / "none")}
    sink = configured_sink({"kafka": {"topic": "rows", "cluster": cluster}}, "kafka", Settings()).sink
    with pytest.raises(ConfigError, match="sasl_password_file"):
        sink.read_files()
