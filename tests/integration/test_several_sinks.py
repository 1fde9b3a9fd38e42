"""Several sinks from one stream, as processes on real servers: each holds what its settings say, and nothing else."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import xxhash
from pydantic import SecretStr

from libs.common.azure.storage.writer import BlobWriter, Target
from libs.common.kafka.loops.dead_letter_writer import DeadLetterWriter
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.storage import StorageAccount
from libs.local.azurite import LocalAzurite
from services.cli.probe import metrics_of, total
from tests.audit import wait_until_read
from tests.estates import ALIAS, ARRIVES_WITHIN_SECONDS, estate, generating, plan_of, wait_for_all
from tests.fakes.bulk_server import BulkServer, Fault
from tests.pipeline import Account, Pipeline, Plan, assert_same_rows_in_order, plain, read_rows
from tests.topic_tools import committed_records, forget_groups

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(900)]

CONTAINER = "insights-logs-flowlogflowevent"
PORTS = {22, 3389}
SHARE = 0.1
WRITTEN = ("blob", "generation", "record_offset", "tuple_index", "time", "src_ip", "dst_port")
RENAMED = {"src_ip": "client", "dst_port": "port"}
FLOW_SINKS = ("all", "denied", "sampled")
HEAD, TAIL = b'{"records":[', b"]}"
GOOD = "1663146003599,10.9.9.9,192.0.2.180,23956,443,6,O,B,NX,0,0,0,0"


@pytest.mark.azurite
def test_each_sink_holds_what_its_settings_say_through_a_kill_and_a_replay(
    kafka_settings: KafkaSettings, topics: TopicSettings, own_azurite: LocalAzurite, tmp_path: Path
) -> None:
    """All rows, a condition, a sample and dead letters, each once; rows left out are counted and positions move past them."""
    plan = plan_of(kafka_settings, topics, own_azurite, tmp_path)
    plan.sinks.clear()
    plan.sinks.update(
        all=files(plan.rows_directory),
        denied=files(
            tmp_path / "denied", where="action = 'deny' and dst_port in (22, 3389)", columns=list(WRITTEN), rename=RENAMED
        ),
        sampled=files(tmp_path / "sampled", sample=SHARE),
        letters=files(tmp_path / "letters", rows="dead_letters"),
    )
    poison = PoisonedBlob()
    with generating(own_azurite, estate(8, 40, seed=31), speed=300) as played, Pipeline(plan).running() as pipeline:
        poison.write(own_azurite)
        for name in ("denied", "sampled", "letters"):
            pipeline.wait_until_ready([f"sink-{name}-0"])
            pipeline.kill(f"sink-{name}-0")
        wait_for_all(pipeline, played)
        wait_until_all_is_read(pipeline)
    truth = played.truth()
    assert_each_holds_its_share(tmp_path, truth, poison)

    forget_groups(kafka_settings, [f"sink.{name}" for name in plan.sinks])
    with Pipeline(plan).running() as pipeline:
        wait_until_all_is_read(pipeline)
        rows, chosen = truth.num_rows + poison.good, len(denied(truth))
        assert outcomes(pipeline, "all") == {"already_there": rows}
        assert outcomes(pipeline, "denied") == {"filtered": rows - chosen, "already_there": chosen}
        chosen = read_rows(tmp_path / "sampled").num_rows
        assert outcomes(pipeline, "sampled") == {"filtered": rows - chosen, "already_there": chosen}
        assert outcomes(pipeline, "letters") == {"already_there": len(poison.bad)}
    assert_each_holds_its_share(tmp_path, truth, poison)


def files(directory: Path, **options: Any) -> dict[str, Any]:
    """Return the options of a file sink."""
    return {"kind": "file", "directory": str(directory), "rotate_seconds": 1, **options}


def wait_until_all_is_read(pipeline: Pipeline) -> None:
    """Wait until ingest, parser and all sinks have committed all there is."""
    topics = pipeline.plan.topics
    readers = [("ingest", topics.blobs), ("parser", topics.raw_flow_logs), ("sink.letters", topics.errors)]
    for group, topic in (*readers, *((f"sink.{name}", topics.flows) for name in FLOW_SINKS)):
        wait_until_read(pipeline, group, topic)


def outcomes(pipeline: Pipeline, sink: str) -> dict[str, float]:
    """Return how many rows a sink process has counted, by outcome."""
    port = pipeline.child(f"sink-{sink}-0").program.health_port
    assert port is not None
    families, metric = metrics_of(port), "blobtide_sink_rows_total"
    kinds = {labels["outcome"] for labels, _ in families.get(metric, ())}
    counts = {kind: total(families, metric, {"outcome": kind, "sink": sink}) for kind in kinds}
    return {kind: count for kind, count in counts.items() if count}


def assert_each_holds_its_share(directory: Path, truth: pa.Table, poison: PoisonedBlob) -> None:
    """Check every destination against what the generator wrote, without the code that selects rows."""
    everything = read_rows(directory / "flows")
    is_poisoned = pa.compute.equal(everything["blob"], poison.blob)
    assert_same_rows_in_order(everything.filter(pa.compute.invert(is_poisoned)), truth)
    assert Counter(everything.filter(is_poisoned)["src_ip"].to_pylist()) == {"10.9.9.9": poison.good}

    rows = read_rows(directory / "denied")
    assert rows.column_names == [RENAMED.get(name, name) for name in WRITTEN]
    names = [name for name in WRITTEN if name != "generation"]
    assert_same_rows_in_order(rows.rename_columns(list(WRITTEN)), truth.take(denied(truth)).select(names))

    rows = read_rows(directory / "sampled")
    assert set(rows["sample_weight"].to_pylist()) == {1 / SHARE}
    expected = everything.filter(pa.array(is_sampled(row) for row in positions(everything)))
    assert 0.05 * everything.num_rows < expected.num_rows < 0.2 * everything.num_rows
    assert_same_rows_in_order(rows.drop_columns("sample_weight"), expected)

    assert Counter(map(given_up, read_rows(directory / "letters").to_pylist())) == Counter(poison.bad)


def denied(truth: pa.Table) -> list[int]:
    """Return the places of the rows that meet the condition."""
    pairs = zip(truth["action"].to_pylist(), truth["dst_port"].to_pylist(), strict=True)
    found = [at for at, (action, port) in enumerate(pairs) if action == "deny" and port in PORTS]
    assert found, "the condition selects something"
    return found


def positions(rows: pa.Table) -> Iterator[tuple[str, str, int, int]]:
    """Yield the position of each row."""
    names = ("blob", "generation", "record_offset", "tuple_index")
    return zip(*(rows[name].to_pylist() for name in names), strict=True)


def is_sampled(position: tuple[str, str, int, int]) -> bool:
    """Tell whether the hash of a position, computed number by number, is in the lowest part of all hashes."""
    number = 0
    for value in position:
        number += xxhash.xxh3_64_intdigest(value.encode()) if isinstance(value, str) else value
        number = (number + 0x9E3779B97F4A7C15) % 2**64
        number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        number = (number ^ number >> 27) * 0x94D049BB133111EB % 2**64
        number ^= number >> 31
    return number < int(SHARE * 2**64)


def given_up(letter: dict[str, Any]) -> tuple[str, str, int, bytes]:
    """Return code, blob, offset and original bytes of a row of dead letters."""
    assert (letter["bytes_text"] is None) != (letter["bytes_base64"] is None)
    data = letter["bytes_text"].encode() if letter["bytes_text"] is not None else base64.b64decode(letter["bytes_base64"])
    assert (letter["stage"], letter["size"]) == ("parser", len(data))
    return letter["code"], letter["blob"], letter["record_offset"], data


class PoisonedBlob:
    """A blob of good records with others between them that cannot become rows."""

    def __init__(self) -> None:
        past = datetime.now(UTC) - timedelta(hours=1)
        hour = f"y={past:%Y}/m={past:%m}/d={past:%d}/h={past:%H}/m=00"
        self._name = (
            f"flowLogResourceID=/P_NETWORKWATCHERRG/NETWORKWATCHER_EASTUS2_POISON/{hour}/macAddress=00DEAD00BEEF/PT1H.json"
        )
        self.blob = f"{ALIAS}/{CONTAINER}/{self._name}"
        self.good = 0
        self.bad: list[tuple[str, str, int, bytes]] = []
        self._data = HEAD
        for turn in range(6):
            self._record(GOOD, GOOD)
            self._bad_tuple(f"16631460035{turn:02},10.0.0.6".encode(), ErrorCode.SHORT_TUPLE)
            self._bad_tuple(
                f"1663146003599,10.0.0.{turn}.6.6,192.0.2.180,1,443,6,O,B,NX,0,0,0,0".encode(), ErrorCode.BAD_ADDRESS
            )
            self._bad_record(flow_record(GOOD, category=f"Novel{turn}"), ErrorCode.UNKNOWN_FORMAT)
            self._bad_record(flow_record(GOOD).replace(b'"acl"', b'"\xff\xfe"'), ErrorCode.BAD_JSON)
        self._record(GOOD)
        self._data += TAIL

    def write(self, azurite: LocalAzurite) -> None:
        """Write it as Azure does: a head, records, a tail."""
        writer = BlobWriter(StorageAccount(connection_string=SecretStr(azurite.connection_string)), ALIAS)
        target = Target(CONTAINER, self._name)
        records = self._data[len(HEAD) : -len(TAIL)]
        ids = [letter + "0" * 32 for letter in "ADZ"]
        for block, data in zip(ids, (HEAD, records, TAIL), strict=True):
            writer.stage_block(target, block, data)
        writer.commit_blocks(target, ids)
        writer.close()

    def _record(self, *tuples: str) -> int:
        self.good += sum(one == GOOD for one in tuples)
        return self._append(flow_record(*tuples))

    def _bad_tuple(self, data: bytes, code: ErrorCode) -> None:
        self.bad.append((code.value, self.blob, self._record(GOOD, data.decode(), GOOD), data))

    def _bad_record(self, data: bytes, code: ErrorCode) -> None:
        self.bad.append((code.value, self.blob, self._append(data), data))

    def _append(self, record: bytes) -> int:
        """Add a record and return where it begins."""
        self._data += b"," if self._data != HEAD else b""
        offset = len(self._data)
        self._data += record
        return offset


def flow_record(*tuples: str, category: str = "FlowLogFlowEvent") -> bytes:
    """Return a record of these tuples."""
    flows = [{"aclID": "acl", "flowGroups": [{"rule": "r", "flowTuples": list(tuples)}]}]
    facts = {"time": "2022-09-14T09:00:52Z", "category": category, "flowLogVersion": 4}
    return json.dumps(facts | {"flowRecords": {"flows": flows}}).encode()


class RefusingServer(BulkServer):
    """A cluster whose mapping no document fits."""

    def _create(self, index: str, identity: str, document: dict[str, Any], fault: Fault) -> dict[str, Any]:
        del index, identity, document, fault
        return {"status": 400, "error": {"type": "document_parsing_exception", "reason": "no field of ours fits"}}


def test_letters_that_their_destinations_refuse_do_not_go_round(
    kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path
) -> None:
    """Of two sinks that refuse every dead letter each writes one more for each of the first; a third holds the first only."""
    count = 25
    with RefusingServer() as server:
        refused = {"kind": "elasticsearch", "hosts": [server.url], "rows": "dead_letters", "require_template": False}
        refused |= {"dead_letter_limit": 1}
        sinks = {"search": refused, "other": refused, "letters": files(tmp_path / "letters", rows="dead_letters")}
        plan = Plan(kafka_settings, topics, Account(""), (), tmp_path, sinks, monitors=0, ingesters=0, parsers=0)
        write_letters(kafka_settings, topics.errors, count)
        with Pipeline(plan).running() as pipeline:
            for name in sinks:
                pipeline.wait(partial(has_passed_over, pipeline, name, 2 * count), ARRIVES_WITHIN_SECONDS, f"{name} is through")
                wait_until_read(pipeline, f"sink.{name}", topics.errors)
            assert pipeline.restarts() == 0
            assert outcomes(pipeline, "search") == {"rejected": count, "filtered": 2 * count}
    stages = Counter(dict(letter.headers)["stage"] for letter in committed_records(kafka_settings, topics.errors))
    assert stages == {b"parser": count, b"sink.search": count, b"sink.other": count}
    rows = plain(read_rows(tmp_path / "letters"))
    assert sorted(rows["bytes_text"].to_pylist()) == sorted(f"bad {number}" for number in range(count))


def has_passed_over(pipeline: Pipeline, sink: str, rows: int) -> bool:
    """Tell whether a sink has left out so many rows."""
    return outcomes(pipeline, sink).get("filtered") == rows


def write_letters(kafka: KafkaSettings, topic: str, count: int) -> None:
    """Write dead letters as the parser does."""
    writer = DeadLetterWriter(kafka, topic)
    writer.open()
    writer.write([DeadLetter("parser", ErrorCode.BAD_JSON, "bad", f"bad {number}".encode()) for number in range(count)])
    writer.close()
