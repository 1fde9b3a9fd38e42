"""What every sink process does with a batch of Kafka messages: decode, group by partition, write, say what was refused."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.errors import CodecError, Retry
from libs.common.kafka.loops.dead_messages import coordinates, dead_message
from libs.common.kafka.loops.sink_loop import Handled
from libs.common.kafka.records import Inbound, TopicPartition
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.messages.headers import Headers
from libs.common.rows.letters import RefusedRow, refused_rows
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import decode_rows
from services.sinks.frame.contract import FlowPart, RejectedRow, Sink, Ticking, Waiting
from services.sinks.frame.metrics import BAD_MESSAGES, BATCH_ROWS, LATENCY_SECONDS, RETRIES, ROWS, WRITE_SECONDS

_ROWS_DIGITS: Final = 6  # more rows than these can count fit into no message


@dataclass(frozen=True, slots=True)
class _Batches:
    """The flow batches of one partition, in order, each with the message it came in."""

    messages: list[Inbound]
    tables: list[pa.Table]

    def part(self, shard: int) -> FlowPart:
        """Join the batches to one part with one chunk a column."""
        return FlowPart(shard, pa.concat_tables(self.tables).unify_dictionaries().combine_chunks())

    def message_of(self, row: int) -> Inbound:
        """Return the message that brought a row."""
        ends = list(accumulate(table.num_rows for table in self.tables))
        return self.messages[bisect_right(ends, row)]


class FlowHandler:
    """Feeds flow batches to one sink; the `BatchHandler` of its `SinkLoop`."""

    def __init__(self, sink: Sink, name: str, clock: Callable[[], float] = time.time) -> None:
        self._sink = sink
        self._name = name
        self._clock = clock

    def open(self) -> None:
        """Open the sink."""
        self._sink.open()

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Give `beat` to a sink that waits."""
        if isinstance(self._sink, Waiting):
            self._sink.while_waiting(beat)

    def handle(self, batch: Sequence[Inbound]) -> Handled:
        """Write the rows of `batch` and return what cannot be written. Raises Retry: same batch again."""
        batches, bad = self._decoded(batch)
        parts = [by_partition.part(shard) for shard, by_partition in batches.items()]
        rejected = self._written(parts) if parts else ()
        BAD_MESSAGES.labels(self._name).inc(len(bad))
        letters = (*bad, *self._refused(rejected, parts, list(batches.values())))
        # A message that cannot be read weighs as many rows as it says it has: one among many rows would count for nothing.
        lost = sum(_stated_rows(letter.original) for letter in bad)
        return Handled(letters, sum(part.flows.num_rows for part in parts) + lost, len(letters) - len(bad) + lost)

    def tick(self) -> None:
        """Let the sink do what it does by time."""
        if isinstance(self._sink, Ticking):
            self._sink.tick()

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Let go of partitions."""
        self._sink.release({source.partition for source in partitions})

    def close(self) -> None:
        """Close the sink."""
        self._sink.close()

    def _decoded(self, batch: Iterable[Inbound]) -> tuple[Mapping[int, _Batches], list[DeadLetter]]:
        batches: dict[int, _Batches] = {}
        bad: list[DeadLetter] = []
        for message in batch:
            try:
                table = decode_rows(FLOWS, message.value or b"")
            except CodecError as error:
                bad.append(dead_message(f"sink.{self._name}", ErrorCode.BAD_MESSAGE, str(error), message))
                continue
            if table.num_rows:
                known = batches.setdefault(message.partition, _Batches([], []))
                known.messages.append(message)
                known.tables.append(table)
        return batches, bad

    def _written(self, parts: Sequence[FlowPart]) -> tuple[RejectedRow, ...]:
        with WRITE_SECONDS.labels(self._name).time():
            try:
                outcome = self._sink.write(parts)
            except Retry as retry:
                RETRIES.labels(self._name, retry.kind).inc()
                raise
        for what, count in (
            ("written", outcome.written),
            ("already_there", outcome.already_there),
            ("rejected", len(outcome.rejected)),
        ):
            ROWS.labels(self._name, what).inc(count)
        BATCH_ROWS.labels(self._name).observe(sum(part.flows.num_rows for part in parts))
        for part in parts:
            LATENCY_SECONDS.labels(self._name).observe(max(0.0, self._clock() - _oldest(part.flows)))
        return outcome.rejected

    def _refused(
        self, rejected: Iterable[RejectedRow], parts: Sequence[FlowPart], batches: Sequence[_Batches]
    ) -> Iterable[DeadLetter]:
        by_part: dict[int, list[RejectedRow]] = {}
        for row in rejected:
            by_part.setdefault(row.part, []).append(row)
        for part, refused in by_part.items():
            rows = parts[part].flows.take([row.row for row in refused])
            why = [RefusedRow(row.code, row.reason, coordinates(batches[part].message_of(row.row))) for row in refused]
            yield from refused_rows(FLOWS, f"sink.{self._name}", rows, why)


def _stated_rows(headers: Headers) -> int:
    """Return the rows that the headers of a message state, at least one."""
    stated = dict(headers).get("rows", b"")
    return max(1, int(stated)) if stated.isdigit() and len(stated) <= _ROWS_DIGITS else 1


def _oldest(flows: pa.Table) -> float:
    """Return the time of the oldest flow, in seconds since 1970."""
    milliseconds: int = pc.min(flows.column("time")).cast(pa.int64()).as_py()
    return milliseconds / 1_000
