"""A transaction in the making: rows, the progress of requests and dead letters, by the partition of the requests.

Rows of a request leave in messages under its id, so that they keep their order. Metrics count what was committed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final

import pyarrow as pa
from prometheus_client import Counter as CounterMetric

from libs.common.grouping import groups_within
from libs.common.kafka.records import Outbound, TopicPartition
from libs.common.messages.dead_letters import DeadLetter
from libs.common.rows.types.results import RESULTS
from libs.common.rows.wire import encode_rows, row_headers
from libs.common.settings.kafka import TopicSettings
from services.collector import metrics
from services.collector.backlog import PendingRequest
from services.collector.history import Sighting, WrittenState
from services.collector.progress import encode_progress
from services.collector.rows import Row

# What a row takes besides its long texts, and a message besides its rows: names, positions, Arrow's own framing.
_ROW_BYTES: Final = 2_048
_LONG: Final = ("data", "metadata", "errors", "path")
MESSAGE_FRAMING: Final = 131_072

Counted = tuple[CounterMetric, tuple[str, ...]]


@dataclass(slots=True)
class _RequestShare:
    """The outcomes for one partition of requests."""

    rows: dict[bytes, list[tuple[Row, int]]] = field(default_factory=dict)  # with their sizes
    touched: dict[bytes, PendingRequest] = field(default_factory=dict)
    letters: list[Outbound] = field(default_factory=list)
    counted: Counter[Counted] = field(default_factory=Counter)


class ResultBatch:
    """Collects outcomes. `bytes` is the size of rows and dead letters."""

    def __init__(self, topics: TopicSettings) -> None:
        self._topics = topics
        self._shares: dict[TopicPartition, _RequestShare] = {}
        self._forwarded: list[Outbound] = []
        self._sightings: list[Sighting] = []
        self._written: list[WrittenState] = []
        self.bytes = 0

    @property
    def sightings(self) -> list[Sighting]:
        """Resources that are new, different or gone, in order."""
        return self._sightings

    def add(self, pending: PendingRequest, rows: Iterable[Row] = ()) -> None:
        """Add rows of a request, whose progress is written as it is when the transaction is made."""
        share = self._share(pending.record.source)
        share.touched[pending.key] = pending
        for row in rows:
            size = _size(row)
            share.rows.setdefault(pending.key, []).append((row, size))
            self.bytes += size
            if row["kind"] == "end":
                share.counted[metrics.CALLS, (row["status"],)] += 1
            else:
                share.counted[metrics.ANSWERS, ()] += row["part"] == 0
                share.counted[metrics.ELEMENTS, ()] += row["elements"]

    def add_resources(self, sightings: Iterable[Sighting]) -> None:
        """Add resources that are new, different or gone."""
        for sighting in sightings:
            self._sightings.append(sighting)
            self.bytes += sighting.nbytes

    def settle(self, written: Iterable[WrittenState]) -> None:
        """Take what is written because of the sightings in their place."""
        self._written, self._sightings = list(written), []

    def forward(self, records: list[Outbound]) -> None:
        """Add records that belong to no partition of requests: messages of a queue."""
        self._forwarded += records
        self.bytes += sum(len(record.value or b"") for record in records)

    def refuse(self, source: TopicPartition, letter: DeadLetter) -> None:
        """Add a dead letter."""
        share = self._share(source)
        share.letters.append(Outbound(self._topics.errors, letter.data, letter.key, letter.headers()))
        share.counted[metrics.DEAD_LETTERS, (letter.code,)] += 1
        self.bytes += len(letter.data)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop the outcomes for these partitions."""
        for source in partitions:
            self._shares.pop(source, None)
        self._sightings = [sighting for sighting in self._sightings if sighting.source not in partitions]

    def outputs(self, room: int) -> list[Outbound]:
        """Return everything as records, those of rows with values of at most `room` bytes; once, because rows leave memory."""
        records = [*self._forwarded, *(record for state in self._written for record in state.records)]
        for source, share in self._shares.items():
            records += share.letters
            while share.rows:
                key, rows = share.rows.popitem()
                headers = row_headers(RESULTS)
                records += [Outbound(self._topics.collection_results, data, key, headers) for data in _messages(rows, room)]
                del rows
            for key, pending in share.touched.items():
                value = encode_progress(pending.progress())
                records.append(Outbound(self._topics.collection_state, value, key, (), source.partition))
        return records

    def count(self) -> None:
        """Update the metrics with what was committed."""
        for share in self._shares.values():
            for (metric, labels), number in share.counted.items():
                (metric.labels(*labels) if labels else metric).inc(number)
        for state in self._written:
            metrics.CHANGES.labels(state.state).inc()

    def _share(self, source: TopicPartition) -> _RequestShare:
        return self._shares.setdefault(source, _RequestShare())


def _messages(rows: list[tuple[Row, int]], room: int) -> Iterator[pa.Buffer]:
    """Yield the rows, given with their sizes, as messages."""
    for group in groups_within(rows, itemgetter(1), room - MESSAGE_FRAMING):
        yield _message([row for row, _ in group])


def _message(rows: list[Row]) -> pa.Buffer:
    return encode_rows(RESULTS, pa.RecordBatch.from_pylist(rows, schema=RESULTS.schema))


def _size(row: Row) -> int:
    return _ROW_BYTES + sum(len((row.get(name) or "").encode()) for name in _LONG)
