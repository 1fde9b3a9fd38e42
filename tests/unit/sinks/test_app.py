"""What a sink process makes of Kafka messages, with a sink that only remembers."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence

import pyarrow as pa
import pytest
from prometheus_client import REGISTRY

from libs.common.errors import Retry
from libs.common.kafka.records import Inbound, TopicPartition
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import encode_rows
from services.sinks.frame.contract import FlowPart, Outcome, RejectedRow
from services.sinks.frame.handler import FlowHandler
from tests.contract.harness import Row
from tests.flows import by_identity, identity, rows, table

CONTENT = rows()


class Memory:
    """A sink that keeps what it gets, refuses the rows it is told to, and is away while `away`."""

    def __init__(self, refused: Collection[tuple[int, int]] = ()) -> None:
        self.refused = refused
        self.away = False
        self.parts: list[FlowPart] = []
        self.released: list[set[int]] = []

    def open(self) -> None:
        """Open nothing."""

    def write(self, parts: Sequence[FlowPart]) -> Outcome:
        """Keep all parts."""
        if self.away:
            raise Retry("away")
        self.parts = list(parts)
        rejected = tuple(RejectedRow(part, at, ErrorCode.REFUSED, "no such thing") for part, at in self.refused)
        return Outcome(sum(part.flows.num_rows for part in parts) - len(rejected), 0, rejected)

    def release(self, shards: Collection[int]) -> None:
        """Remember what was released."""
        self.released.append(set(shards))

    def close(self) -> None:
        """Close nothing."""


class Patient(Memory):
    """A sink that beats while it writes."""

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Remember."""
        self.beat = beat

    def write(self, parts: Sequence[FlowPart]) -> Outcome:
        """Beat once."""
        self.beat()
        return super().write(parts)


def message(partition: int, offset: int, content: Sequence[Row]) -> Inbound:
    """Return a flow batch as it comes from Kafka."""
    (batch,) = table(content).combine_chunks().to_batches()
    return Inbound("Extracted.Flows", partition, offset, 0, None, encode_rows(FLOWS, batch), ())


def metric(name: str, **labels: str) -> float:
    """Return a metric's value."""
    return REGISTRY.get_sample_value(name, {"sink": "memory", **labels}) or 0.0


def test_batches_of_a_partition_become_one_part_in_order() -> None:
    """Messages are grouped by partition, in order, with one dictionary a column; empty batches vanish."""
    sink = Memory()
    batch = [message(2, 0, CONTENT[:5]), message(0, 7, CONTENT[20:]), message(2, 1, CONTENT[5:20])]
    empty = Inbound("Extracted.Flows", 1, 0, 0, None, encode_rows(FLOWS, pa.RecordBatch.from_pylist([], table([]).schema)), ())
    assert FlowHandler(sink, "memory").handle([*batch, empty]).rejected == ()
    assert [part.shard for part in sink.parts] == [2, 0]
    assert by_identity(sink.parts[0].flows) == by_identity(CONTENT[:20])
    assert [identity(row) for row in CONTENT[:20]] == list(by_identity(sink.parts[0].flows))
    assert sink.parts[0].flows.column("blob").num_chunks == 1


@pytest.mark.parametrize(
    "value", [None, b"", b"nonsense", encode_rows(FLOWS, table(CONTENT).combine_chunks().to_batches()[0])[:200]]
)
def test_a_message_that_is_no_flow_batch_is_dead_lettered(value: bytes | None) -> None:
    """Its bytes, key, headers and coordinates go into the dead letter; its neighbours are written; it weighs its rows."""
    sink = Memory()
    bad = Inbound("Extracted.Flows", 1, 42, 0, b"key", value, (("rows", b"7"),))
    handled = FlowHandler(sink, "memory").handle([bad, message(1, 43, CONTENT)])
    (letter,) = handled.rejected
    assert (handled.records, handled.refused) == (len(CONTENT) + 7, 7)
    assert (letter.stage, letter.code, letter.data, letter.key) == ("sink.memory", ErrorCode.BAD_MESSAGE, value or b"", b"key")
    assert letter.source == {"topic": "Extracted.Flows", "partition": "1", "offset": "42"}
    assert ("original-rows", b"7") in letter.headers()
    assert sink.parts[0].flows.num_rows == len(CONTENT)


def test_a_refused_row_is_dead_lettered_with_its_identity() -> None:
    """The row goes into the dead letter as JSON, with its identity and the message that brought it."""
    sink = Memory(refused=[(1, 6)])
    before = metric("blobtide_sink_rows_total", outcome="rejected")
    batch = [message(3, 0, CONTENT[:5]), message(1, 8, CONTENT[5:10]), message(1, 9, CONTENT[10:])]
    (letter,) = FlowHandler(sink, "memory").handle(batch).rejected
    row = CONTENT[11]
    assert (letter.blob, letter.generation, letter.record_offset, letter.tuple_index) == identity(row)
    assert json.loads(letter.data)["rule"] == row["rule"]
    assert (letter.code, letter.reason, letter.source["offset"]) == (ErrorCode.REFUSED, "no such thing", "9")
    assert metric("blobtide_sink_rows_total", outcome="rejected") == before + 1


def test_retry_passes_and_is_counted() -> None:
    """A sink that is away makes the loop repeat the batch; nothing is counted as written."""
    sink = Memory()
    sink.away = True
    retries = metric("blobtide_sink_retries_total", kind="unreachable")
    written = metric("blobtide_sink_rows_total", outcome="written")
    with pytest.raises(Retry):
        FlowHandler(sink, "memory").handle([message(0, 0, CONTENT)])
    assert metric("blobtide_sink_retries_total", kind="unreachable") == retries + 1
    assert metric("blobtide_sink_rows_total", outcome="written") == written


def test_metrics_move_with_a_write() -> None:
    """Rows, batches, time and latency are counted once a batch."""
    names = ("batch_rows_count", "write_duration_seconds_count", "end_to_end_latency_seconds_count")
    before = [metric(f"blobtide_sink_{name}") for name in names]
    FlowHandler(Memory(), "memory").handle([message(0, 0, CONTENT)])
    assert [metric(f"blobtide_sink_{name}") for name in names] == [value + 1 for value in before]


def test_revoked_partitions_are_released() -> None:
    """Partitions that leave are shards that are released."""
    sink = Memory()
    FlowHandler(sink, "memory").revoked([TopicPartition("Extracted.Flows", 1), TopicPartition("Extracted.Flows", 3)])
    assert sink.released == [{1, 3}]


@pytest.mark.parametrize(("sink", "beats"), [(Patient(), 1), (Memory(), 0)])
def test_a_sink_that_waits_gets_the_beat(sink: Memory, beats: int) -> None:
    """What the loop wants called during a long write reaches the sink, if it wants it."""
    heard: list[None] = []
    handler = FlowHandler(sink, "memory")
    handler.while_waiting(lambda: heard.append(None))
    handler.handle([message(0, 0, CONTENT)])
    assert len(heard) == beats
