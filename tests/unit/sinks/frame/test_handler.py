"""What a sink process makes of Kafka messages, with a sink that only remembers."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence

import pyarrow as pa
import pytest
from prometheus_client import REGISTRY

from libs.common.errors import Retry
from libs.common.kafka.records import Inbound, TopicPartition
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.rows.reading import reader_of
from libs.common.rows.row_type import RowType
from libs.common.rows.select import Selected, Selection
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import encode_rows
from services.sinks.frame.contract import Outcome, Part, RejectedRow, Sink
from services.sinks.frame.handler import RowHandler, SinkFeed
from services.sinks.frame.letters import OtherLetters
from tests.contract.harness import Row
from tests.flows import by_identity, identity, rows, table, values_of

CONTENT = rows()


class Memory(Sink):
    """A sink that keeps what it gets, refuses the rows it is told to, and is away while `away`."""

    def __init__(self, refused: Collection[tuple[int, int]] = ()) -> None:
        self.refused = refused
        self.away = False
        self.parts: list[Part] = []
        self.released: list[set[int]] = []

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Keep all parts."""
        if self.away:
            raise Retry("away")
        self.parts = list(parts)
        rejected = tuple(RejectedRow(part, at, ErrorCode.REFUSED, "no such thing") for part, at in self.refused)
        return Outcome(sum(part.rows.num_rows for part in parts) - len(rejected), 0, rejected)

    def release(self, shards: Collection[int]) -> None:
        """Remember what was released."""
        self.released.append(set(shards))


class Patient(Memory):
    """A sink that beats while it writes."""

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Remember."""
        self.beat = beat

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Beat once."""
        self.beat()
        return super().write(parts)


def message(partition: int, offset: int, content: Sequence[Row]) -> Inbound:
    """Return a flow batch as it comes from Kafka."""
    (batch,) = table(content).combine_chunks().to_batches()
    return Inbound("Extracted.Flows", partition, offset, 0, None, encode_rows(FLOWS, batch), ())


def handler_of(sink: Sink, row_type: RowType = FLOWS, *select: Callable[[pa.Table], Selected]) -> RowHandler:
    """Return a handler of batches of a row type."""
    return RowHandler(sink, SinkFeed("memory", row_type, reader_of(row_type, lambda _: "topic id"), select))


def metric(name: str, **labels: str) -> float:
    """Return a metric's value."""
    return REGISTRY.get_sample_value(name, {"sink": "memory", **labels}) or 0.0


def test_batches_of_a_partition_become_one_part_in_order() -> None:
    """Messages are grouped by partition, in order, with one dictionary a column; empty batches vanish."""
    sink = Memory()
    batch = [message(2, 0, CONTENT[:5]), message(0, 7, CONTENT[20:]), message(2, 1, CONTENT[5:20])]
    empty = Inbound("Extracted.Flows", 1, 0, 0, None, encode_rows(FLOWS, pa.RecordBatch.from_pylist([], table([]).schema)), ())
    assert handler_of(sink).handle([*batch, empty]).rejected == ()
    assert [part.shard for part in sink.parts] == [2, 0]
    assert by_identity(sink.parts[0].rows) == by_identity(CONTENT[:20])
    assert [identity(row) for row in CONTENT[:20]] == list(by_identity(sink.parts[0].rows))
    assert sink.parts[0].rows.column("blob").num_chunks == 1


@pytest.mark.parametrize(
    "value", [None, b"", b"nonsense", encode_rows(FLOWS, table(CONTENT).combine_chunks().to_batches()[0])[:200]]
)
def test_a_message_that_is_no_flow_batch_is_dead_lettered(value: bytes | None) -> None:
    """Its bytes, key, headers and coordinates go into the dead letter; its neighbours are written; it weighs its rows."""
    sink = Memory()
    bad = Inbound("Extracted.Flows", 1, 42, 0, b"key", value, (("rows", b"7"),))
    handled = handler_of(sink).handle([bad, message(1, 43, CONTENT)])
    (letter,) = handled.rejected
    assert (handled.records, handled.refused) == (len(CONTENT) + 7, 7)
    assert (letter.stage, letter.code, letter.data, letter.key) == ("sink.memory", ErrorCode.BAD_MESSAGE, value or b"", b"key")
    assert letter.source == {"topic": "Extracted.Flows", "partition": "1", "offset": "42"}
    assert ("original-rows", b"7") in letter.headers()
    assert sink.parts[0].rows.num_rows == len(CONTENT)


def test_a_refused_row_is_dead_lettered_with_its_identity() -> None:
    """The row goes into the dead letter as JSON, with its identity and the message that brought it."""
    sink = Memory(refused=[(1, 6)])
    before = metric("blobtide_sink_rows_total", outcome="rejected")
    batch = [message(3, 0, CONTENT[:5]), message(1, 8, CONTENT[5:10]), message(1, 9, CONTENT[10:])]
    (letter,) = handler_of(sink).handle(batch).rejected
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
        handler_of(sink).handle([message(0, 0, CONTENT)])
    assert metric("blobtide_sink_retries_total", kind="unreachable") == retries + 1
    assert metric("blobtide_sink_rows_total", outcome="written") == written


def test_metrics_move_with_a_write() -> None:
    """Rows, batches, time and latency are counted once a batch."""
    names = ("batch_rows_count", "write_duration_seconds_count", "end_to_end_latency_seconds_count")
    before = [metric(f"blobtide_sink_{name}") for name in names]
    handler_of(Memory()).handle([message(0, 0, CONTENT)])
    assert [metric(f"blobtide_sink_{name}") for name in names] == [value + 1 for value in before]


def test_revoked_partitions_are_released() -> None:
    """Partitions that leave are shards that are released."""
    sink = Memory()
    handler_of(sink).revoked([TopicPartition("Extracted.Flows", 1), TopicPartition("Extracted.Flows", 3)])
    assert sink.released == [{1, 3}]


@pytest.mark.parametrize(("sink", "beats"), [(Patient(), 1), (Memory(), 0)])
def test_a_sink_that_waits_gets_the_beat(sink: Memory, beats: int) -> None:
    """What the loop wants called during a long write reaches the sink, if it wants it."""
    heard: list[None] = []
    handler = handler_of(sink)
    handler.while_waiting(lambda: heard.append(None))
    handler.handle([message(0, 0, CONTENT)])
    assert len(heard) == beats


def selecting(where: str | None = None, sample: float | None = None) -> Callable[[pa.Table], Selected]:
    """Return what selects flows."""
    return Selection.of(FLOWS, where, sample).select


def test_rows_that_are_filtered_are_counted_and_neither_written_nor_lost() -> None:
    """Only rows that meet the condition reach the sink; messages keep their ends, and one of which none is left has none."""
    sink = Memory()
    before = metric("blobtide_sink_rows_total", outcome="filtered")
    batch = [message(1, at, CONTENT[4 * at : 4 * at + 4]) for at in range(6)]  # of blobs 0, 1, 2, 0, 1, 2
    where = "src_ip <> '10.1.0.4' and tuple_index <> 3"
    assert handler_of(sink, FLOWS, selecting(where)).handle(batch).rejected == ()
    (part,) = sink.parts
    assert values_of(part.rows) == [row for row in CONTENT[:24] if row["src_ip"] != "10.1.0.4" and row["tuple_index"] != 3]
    assert part.ends == (3, 6, 9, 12)
    assert part.rows.column("blob").num_chunks == 1
    assert metric("blobtide_sink_rows_total", outcome="filtered") == before + 12


def test_a_batch_of_which_nothing_is_left_is_done() -> None:
    """Nothing is written, and the batch counts as handled, so that its offsets move."""
    sink = Memory()
    sink.away = True
    handled = handler_of(sink, FLOWS, selecting("src_ip = 'nowhere'")).handle([message(0, 0, CONTENT)])
    assert (handled.rejected, handled.records, handled.refused) == ((), 0, 0)


def test_a_refused_row_of_a_selection_is_found_again() -> None:
    """The dead letter names the message that brought the row, also where rows before it were left out."""
    sink = Memory(refused=[(0, 1)])
    batch = [message(3, 7, CONTENT[:5]), message(3, 8, CONTENT[5:6]), message(3, 9, CONTENT[6:])]
    wanted = [row for row in CONTENT if row["action"] == "deny"]
    (letter,) = handler_of(sink, FLOWS, selecting("action = 'deny'")).handle(batch).rejected
    assert (letter.blob, letter.generation, letter.record_offset, letter.tuple_index) == identity(wanted[1])
    assert letter.source["offset"] == "9"


def test_a_sample_is_the_same_in_a_replay_and_says_its_weight() -> None:
    """However rows are cut into batches, the same ones are chosen, and each says for how many it stands."""
    content = rows(blobs=10, records=10, tuples=10)
    chosen = []
    for size in (1_000, 70):
        sink, found = Memory(), []
        handler = handler_of(sink, FLOWS, selecting(sample=0.25))
        for at in range(0, len(content), size):
            sink.parts = []
            handler.handle([message(0, at, content[at : at + size])])
            found += [row for part in sink.parts for row in part.rows.to_pylist()]
        assert {row["sample_weight"] for row in found} == {4.0}
        chosen.append(found)
    assert chosen[0] == chosen[1]
    assert 150 < len(chosen[0]) < 350


def letter(offset: int, stage: str, topic: str = "Raw.FlowLogs") -> Inbound:
    """Return a dead letter as it comes from Kafka."""
    source = {"topic": topic, "partition": "1", "offset": "5"}
    made = DeadLetter(stage, ErrorCode.REFUSED, "no such thing", b"{}", b"key", source=source)
    return Inbound("Errors", 2, offset, 1_000, made.key, made.data, made.headers())


def test_dead_letters_are_rows_but_for_those_that_would_go_round() -> None:
    """A sink of dead letters gets the letters of others; its own, and those about dead letters, are counted as filtered."""
    sink = Memory()
    before = metric("blobtide_sink_rows_total", outcome="filtered")
    batch = [letter(1, "parser"), letter(2, "sink.memory"), letter(3, "sink.other"), letter(4, "sink.other", "Errors")]
    handler_of(sink, DEAD_LETTERS, OtherLetters("memory", "Errors").select).handle(batch)
    (part,) = sink.parts
    assert part.row_type is DEAD_LETTERS
    assert part.rows.column("letter_offset").to_pylist() == [1, 3]
    assert part.ends == (1, 2)
    assert metric("blobtide_sink_rows_total", outcome="filtered") == before + 2
