"""What every sink process does with a batch of messages: decode, group by partition, select, write, report refusals."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
from libs.common.rows.reading import Reader
from libs.common.rows.row_type import RowType
from libs.common.rows.select import Selected
from services.sinks.frame.contract import Part, RejectedRow, Sink
from services.sinks.frame.metrics import BAD_MESSAGES, BATCH_ROWS, LATENCY_SECONDS, RETRIES, ROWS, WRITE_SECONDS

_LETTERS_AT_ONCE: Final = 500
_ROWS_DIGITS: Final = 6  # no message holds more rows than these digits can count


@dataclass(frozen=True, slots=True)
class SinkFeed:
    """The input of a sink.

    Attributes:
        name: the configured name of the sink.
        row_type: the type of its rows.
        read: makes rows from a message.
        select: steps that intentionally leave out rows, applied in order.
        moved: called when partitions are revoked.
    """

    name: str
    row_type: RowType
    read: Reader
    select: tuple[Callable[[pa.Table], Selected], ...] = ()
    moved: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class _Batches:
    """The batches of one partition, in order, each with its message."""

    messages: list[Inbound]
    tables: list[pa.Table]


@dataclass(frozen=True, slots=True)
class _Portion:
    """A part and the messages that its rows came in, one for each of its ends."""

    part: Part
    messages: tuple[Inbound, ...]

    def message_of(self, row: int) -> Inbound:
        """Return the message that a row came in."""
        return self.messages[bisect_right(self.part.ends, row)]


class _Letters(Collection[DeadLetter]):
    """The dead letters of a batch: of whole messages, and of rows, which are made when they are needed."""

    def __init__(self, messages: Sequence[DeadLetter], rows: int, make: Callable[[], Iterator[DeadLetter]]) -> None:
        self._messages = messages
        self._rows = rows
        self._make = make

    def __len__(self) -> int:
        return len(self._messages) + self._rows

    def __iter__(self) -> Iterator[DeadLetter]:
        yield from self._messages
        yield from self._make()

    def __contains__(self, letter: object) -> bool:
        return any(letter == one for one in self)


class RowHandler:
    """Feeds rows to one sink; the `BatchHandler` of its `SinkLoop`."""

    def __init__(self, sink: Sink, feed: SinkFeed, clock: Callable[[], float] = time.time) -> None:
        self._sink = sink
        self._feed = feed
        self._clock = clock

    def open(self) -> None:
        """Open the sink."""
        self._sink.open()

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Pass `beat` to the sink."""
        self._sink.while_waiting(beat)

    def handle(self, batch: Sequence[Inbound]) -> Handled:
        """Write the rows of `batch` and return those that cannot be written. Raises Retry to get the same batch again."""
        batches, bad = self._decoded(batch)
        portions, filtered = self._selected(batches)
        rejected = self._written([portion.part for portion in portions]) if portions else ()
        ROWS.labels(self._feed.name, "filtered").inc(filtered)
        BAD_MESSAGES.labels(self._feed.name).inc(len(bad))
        letters = _Letters(bad, len(rejected), lambda: self._refused(rejected, portions)) if bad or rejected else ()
        # An unreadable message counts as the number of rows that it states: as a single row, it would hardly count at all.
        lost = sum(_stated_rows(letter.original) for letter in bad)
        tried = sum(portion.part.rows.num_rows for portion in portions)
        return Handled(letters, tried + lost, len(letters) - len(bad) + lost)

    def tick(self) -> None:
        """Let the sink do its time-based work."""
        self._sink.tick()

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Give up partitions."""
        self._feed.moved()
        self._sink.release({source.partition for source in partitions})

    def close(self) -> None:
        """Close the sink."""
        self._sink.close()

    def _decoded(self, batch: Iterable[Inbound]) -> tuple[Mapping[TopicPartition, _Batches], list[DeadLetter]]:
        batches: dict[TopicPartition, _Batches] = {}
        bad: list[DeadLetter] = []
        for message in batch:
            try:
                table = self._feed.read(message)
            except CodecError as error:
                bad.append(dead_message(f"sink.{self._feed.name}", ErrorCode.BAD_MESSAGE, str(error), message))
                continue
            if table.num_rows:
                known = batches.setdefault(message.source, _Batches([], []))
                known.messages.append(message)
                known.tables.append(table)
        return batches, bad

    def _selected(self, batches: Mapping[TopicPartition, _Batches]) -> tuple[list[_Portion], int]:
        """Join the batches of each partition, and leave out and count the rows that are not selected."""
        portions, filtered = [], 0
        for source, by_partition in batches.items():
            rows = pa.concat_tables(by_partition.tables).unify_dictionaries().combine_chunks()
            ends = tuple(accumulate(table.num_rows for table in by_partition.tables))
            before = rows.num_rows
            for select in self._feed.select:
                selected = select(rows)
                rows, ends = selected.rows, selected.ends(ends)
            filtered += before - rows.num_rows
            if rows.num_rows:
                portions.append(_portion(Part(source.partition, self._feed.row_type, rows, ends), by_partition.messages))
        return portions, filtered

    def _written(self, parts: Sequence[Part]) -> tuple[RejectedRow, ...]:
        name = self._feed.name
        with WRITE_SECONDS.labels(name).time():
            try:
                outcome = self._sink.write(parts)
            except Retry as retry:
                RETRIES.labels(name, retry.kind).inc()
                raise
        for what, count in (
            ("written", outcome.written),
            ("already_there", outcome.already_there),
            ("rejected", len(outcome.rejected)),
        ):
            ROWS.labels(name, what).inc(count)
        BATCH_ROWS.labels(name).observe(sum(part.rows.num_rows for part in parts))
        for part in parts:
            LATENCY_SECONDS.labels(name).observe(max(0.0, self._clock() - _oldest(part)))
        return outcome.rejected

    def _refused(self, rejected: Iterable[RejectedRow], portions: Sequence[_Portion]) -> Iterator[DeadLetter]:
        by_part: dict[int, list[RejectedRow]] = {}
        for row in rejected:
            by_part.setdefault(row.part, []).append(row)
        for number, refused in by_part.items():
            for start in range(0, len(refused), _LETTERS_AT_ONCE):
                yield from self._letters(portions[number], refused[start : start + _LETTERS_AT_ONCE])

    def _letters(self, portion: _Portion, refused: Sequence[RejectedRow]) -> Iterator[DeadLetter]:
        rows = portion.part.rows.take([row.row for row in refused])
        why = [RefusedRow(row.code, row.reason, coordinates(portion.message_of(row.row))) for row in refused]
        yield from refused_rows(self._feed.row_type, f"sink.{self._feed.name}", rows, why)


def _portion(part: Part, messages: Sequence[Inbound]) -> _Portion:
    """Return a part with its messages, leaving out those without any rows left."""
    begins = (0, *part.ends)
    kept = [at for at, end in enumerate(part.ends) if end > begins[at]]
    if len(kept) == len(part.ends):
        return _Portion(part, tuple(messages))
    ends = tuple(part.ends[at] for at in kept)
    return _Portion(Part(part.shard, part.row_type, part.rows, ends), tuple(messages[at] for at in kept))


def _stated_rows(headers: Headers) -> int:
    """Return the number of rows stated in the headers of a message, at least one."""
    stated = dict(headers).get("rows", b"")
    return max(1, int(stated)) if stated.isdigit() and len(stated) <= _ROWS_DIGITS else 1


def _oldest(part: Part) -> float:
    """Return the time of the oldest row, in seconds since 1970."""
    times = part.rows.column(part.row_type.time)
    oldest: int = pc.min(times).cast(pa.timestamp("ms", tz="UTC"), safe=False).cast(pa.int64()).as_py()
    return oldest / 1_000
