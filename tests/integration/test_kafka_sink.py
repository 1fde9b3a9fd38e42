"""The kafka sink where its promise is hard to keep: zombies, kills, records that are too large, topics that are others'."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.kafka.topics.making import make_topic
from libs.common.kafka.transactions import fenced
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.types.flows import FLOWS
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings
from libs.local.kafka import LocalKafka
from services.sinks.frame import message_sink
from services.sinks.frame.contract import Outcome, Sink
from services.sinks.frame.registry import configured_sink
from services.sinks.records.sink import Delivery
from tests.contract.harness import Case
from tests.contract.harnesses.kafka import PARTITIONS, KafkaHarness
from tests.contract.writer import WriterPlan
from tests.flows import Spot, row
from tests.row_samples import position_of
from tests.topic_tools import configure

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
    command = WriterPlan("kafka", "flows", options, size=ROWS_A_BATCH).command
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


def _patient(sink: Sink, content: list[Any], tries: int = 5) -> Outcome:
    for _ in range(tries):
        try:
            return sink.write(CASE.parts(content))
        except Retry as error:
            time.sleep(error.after)
    raise AssertionError("it never ends")


def test_a_refused_row_survives_a_retry_of_its_batch(target: KafkaHarness, sinks: list[Sink]) -> None:
    """If the write is repeated after the transaction with the refused row, that row is named in the outcome that counts."""
    sink, other = sinks
    content = CASE.rows(6)
    here, there = ([row for row in content if CASE.shard_of(row) == shard] for shard in (0, 1))
    bad = {**here[-1], "record_offset": 50_000, "rule": "x" * 2_000_000}
    _patient(sink, [*here[:4], *there[:4]])
    steps = iter([there[:5]])

    def take_over() -> None:
        for rows in steps:
            other.write(CASE.parts(rows))

    sink.while_waiting(take_over)
    with pytest.raises(Retry):
        sink.write(CASE.parts([*content, bad]))
    assert [one.code for one in _patient(sink, [*content, bad]).rejected] == [ErrorCode.TOO_LARGE]
    assert target.read() == target.expected(content)


def test_a_row_that_was_refused_is_written_once_it_can_be(target: KafkaHarness) -> None:
    """Of rows that were refused and are no dead letters, a replay writes those that the topic takes by now, and only those."""
    content = CASE.rows()
    big, huge = (row(Spot(0, 50, at), rule="x" * size) for at, size in ((0, 1_200_000), (1, 3_000_000)))
    with _opened(target) as sink:
        assert len(_patient(sink, [*content, big, huge, row(Spot(0, 51, 0))]).rejected) == 2
    _alter(target, "max.message.bytes", "2000000")
    with _opened(target) as sink:
        outcome = _patient(sink, [*content, big, huge, row(Spot(0, 51, 0))])
        assert (outcome.written, len(outcome.rejected)) == (1, 1)
        assert _patient(sink, [row(Spot(0, 52, 0))]) == Outcome(1)
    with _opened(target) as sink:
        assert _patient(sink, [*content, big, huge]) == Outcome(0, len(content) + 2)
    assert {int(position[3]) for position in _unordered(target) if position[2] == big["record_offset"]} == {0}


def test_a_slow_commit_costs_a_retry_and_no_process(target: KafkaHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a commit that took so long that its client was dropped, the sink takes the id over again and goes on."""
    monkeypatch.setattr(fenced, "_TIMES", replace(fenced._TIMES, slow_commit=0.0))
    monkeypatch.setattr(message_sink, "MESSAGES_AT_ONCE", 4)
    content = CASE.rows()
    with _opened(target) as sink:
        for at in range(0, len(content), 12):
            _patient(sink, content[at : at + 12], tries=20)
    assert target.read() == target.expected(content)


@pytest.mark.parametrize("delivery", [one.value for one in Delivery])
@pytest.mark.parametrize("keyless", [1, 12])
def test_a_record_that_kafka_does_not_take_is_refused_and_stops_nothing(
    target: KafkaHarness, keyless: int, delivery: str
) -> None:
    """A compacted topic takes no records without a key: only rows that have none are dead letters, be it one or several."""
    # A topic that only becomes compacted takes such records a moment longer.
    target.topic = f"{target.topic}.compacted"
    make_topic(target.pipeline().kafka, target.topic, PARTITIONS, {"cleanup.policy": "compact"})
    content = [row(Spot(blob, record, 0), state="begin") for record in range(8) for blob in range(3)]
    content = [{**values, "state": None} if at < keyless else values for at, values in enumerate(content)]
    with _opened(target, key="{state}", delivery=delivery) as sink:
        outcome = _patient(sink, content)
    assert {one.code for one in outcome.rejected} == {ErrorCode.REFUSED}
    assert len(outcome.rejected) == keyless
    assert _unordered(target) == {position_of(FLOWS, values) for values in content[keyless:]}


def test_a_target_topic_that_is_missing_is_named(target: KafkaHarness) -> None:
    """While a topic does not exist the sink waits, and says for which."""
    for delivery in Delivery:
        with _opened(target, topic=f"{target.topic}.{{action}}", delivery=delivery.value) as sink:
            said, deadline = "", time.monotonic() + 60
            while f"topic {target.topic}.allow, {target.topic}.deny do not exist" not in said:
                assert time.monotonic() < deadline, said
                with pytest.raises(Retry) as raised:
                    sink.write(CASE.parts(CASE.rows()))
                said = str(raised.value)


def test_a_shard_that_leaves_in_the_middle_of_a_write_is_not_taken_back(target: KafkaHarness) -> None:
    """What was released while another shard was written is left to its new owner."""
    content = CASE.rows()
    with _opened(target) as sink, _opened(target) as heir:
        _patient(heir, [row for row in content if CASE.shard_of(row) == 1][:1])
        _patient(sink, [row for row in content if CASE.shard_of(row) == 0][:1])
        taken = [False]

        def beat() -> None:
            if not taken[0]:
                taken[0] = True
                sink.release({1})
                heir.write(CASE.parts([row for row in content if CASE.shard_of(row) == 1]))

        sink.while_waiting(beat)
        with pytest.raises(Retry, match="moved"):
            sink.write(CASE.parts(content))
        more = [row(Spot(blob, 60, 0)) for blob in range(3)]
        assert heir.write(CASE.parts([row for row in more if CASE.shard_of(row) == 1])).written > 0  # it was not fenced


def test_a_topic_of_positions_with_too_few_partitions_is_refused(target: KafkaHarness) -> None:
    """Otherwise some shards would wait for ever for a partition that does not exist."""
    positions = f"{target.positions}.small"
    make_topic(target.pipeline().kafka, positions, 3, {})
    with pytest.raises(ConfigError, match=r"has 3 partitions but needs 12"), _opened(target, positions_topic=positions):
        pass


def test_pipelines_with_different_prefixes_share_no_positions_in_another_cluster(target: KafkaHarness) -> None:
    """The prefix of the pipeline holds for another cluster too, unless that has its own: ids and positions are apart."""
    cluster = {"bootstrap_servers": target.server.bootstrap_servers}
    for prefix in ("one", "two"):
        pipeline = Settings(kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1", group_prefix=f"{target.topic}.{prefix}"))
        options = {**target.all_options(), "cluster": cluster}
        sink = configured_sink({"kafka": options}, "kafka", pipeline).sink
        sink.open()
        try:
            assert _patient(sink, CASE.rows()).written == len(CASE.rows())
        finally:
            sink.close()


@contextmanager
def _opened(target: KafkaHarness, **options: object) -> Iterator[Sink]:
    sink = configured_sink({"kafka": target.all_options() | options}, "kafka", target.pipeline()).sink
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


def _alter(target: KafkaHarness, name: str, value: str) -> None:
    configure(target.pipeline().kafka, target.topic, name, value)


def _unordered(target: KafkaHarness) -> set[Any]:
    """Return the positions of all records, each of which must be there once."""
    found = [position_of(FLOWS, values) for _, _, values in target.records()]
    assert len(set(found)) == len(found)
    return set(found)


def test_no_row_chooses_a_topic_of_the_pipeline(target: KafkaHarness) -> None:
    """A value that spells the name of a topic of ours, or of Kafka's, leads nowhere."""
    options = target.all_options() | {"topic": "{rule}", "max_topics": 10}
    sink = configured_sink({"kafka": options}, "kafka", target.pipeline()).sink
    sink.open()
    try:
        names = ["Extracted.Flows", "__consumer_offsets", target.positions, "Errors", ".."]
        content = [row(Spot(0, 0, index), rule=name) for index, name in enumerate(names)]
        outcome = _patient(sink, [*content, row(Spot(0, 0, 9), rule=target.topic)])
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
