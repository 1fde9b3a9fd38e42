"""Turn batches of flows into batches of rollups: the transform that runs between reading and committing.

The flows of one poll are summed up together, whatever their partitions, because each call has a fixed cost; the rollups of each
partition leave on that partition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Final

import numpy as np
import pyarrow as pa

from libs.common.errors import CodecError
from libs.common.kafka.loops.dead_messages import dead_message
from libs.common.kafka.loops.limit import RejectionLimit
from libs.common.kafka.loops.transform_loop import Transform
from libs.common.kafka.records import Inbound, Outbound
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.rows.batches import Outlet, slices
from libs.common.rows.reading import batch_reader
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.rollups import ROLLUPS
from libs.common.rows.wire import row_headers
from services.aggregator import metrics
from services.aggregator.aggregation import Aggregation
from services.aggregator.flow_rows import FlowRows
from services.aggregator.kernel import RolledUp, roll_up

STAGE: Final = "aggregator"


@dataclass(slots=True)
class _Counted:
    """What the last poll gave."""

    messages: int = 0
    flows: int = 0
    letters: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    filtered: Counter[str] = field(default_factory=Counter)
    throttled: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Share:
    """The flows of one partition: they end with the flow of this number."""

    partition: int
    end: int


class Aggregator(Transform):
    """A `Transform` of batches of flows into batches of rollups and dead letters."""

    def __init__(self, outlet: Outlet, aggregations: Sequence[Aggregation]) -> None:
        self._outlet = outlet
        self._aggregations = aggregations
        self._columns = frozenset[str]().union(*(one.columns for one in aggregations))
        self._read = batch_reader(FLOWS)
        self._limit = RejectionLimit(outlet.dead_letter_limit)
        self._uncommitted = _Counted()

    def handle(self, batch: Sequence[Inbound]) -> list[Outbound]:
        """Sum up the flows of one poll.

        Raises:
            DeadLetterLimit: too many of the latest messages are no batches of flows.
            ConfigError: a condition exceeds its limit of time or memory.
        """
        letters: list[DeadLetter] = []
        tables: list[pa.Table] = []
        shares: list[_Share] = []
        for partition, messages in groupby(sorted(batch, key=attrgetter("partition")), key=attrgetter("partition")):
            tables += self._tables(messages, letters)
            shares.append(_Share(partition, sum(table.num_rows for table in tables)))
        counted = self._uncommitted = _Counted(len(batch), sum(table.num_rows for table in tables), len(letters))
        self._limit.judge(counted.messages, counted.letters)
        outputs = [Outbound(self._outlet.errors_topic, one.data, one.key, one.headers()) for one in letters]
        if counted.flows:
            with metrics.SECONDS.time():
                flows = FlowRows.of(tables, self._columns)
                for aggregation in self._aggregations:
                    outputs += self._rollups(aggregation, flows, shares)
        return outputs

    def committed(self) -> None:
        """Count the last batch; a batch repeated after an aborted transaction counts once."""
        counted = self._uncommitted
        self._limit.count(counted.messages, counted.letters)
        metrics.FLOWS.inc(counted.flows)
        metrics.DEAD_LETTERS.inc(counted.letters)
        for name, count in counted.rows.items():
            metrics.ROWS.labels(name).inc(count)
        for name, count in counted.filtered.items():
            metrics.FILTERED.labels(name).inc(count)
        for name, count in counted.throttled.items():
            metrics.THROTTLED.labels(name).inc(count)

    def _tables(self, messages: Iterator[Inbound], letters: list[DeadLetter]) -> Iterator[pa.Table]:
        for message in messages:
            try:
                yield self._read(message)
            except CodecError as error:
                letters.append(dead_message(STAGE, ErrorCode.BAD_MESSAGE, str(error), message))

    def _rollups(self, aggregation: Aggregation, flows: FlowRows, shares: Sequence[_Share]) -> Iterator[Outbound]:
        found = roll_up(aggregation, flows)
        self._uncommitted.rows[aggregation.name] += found.rows.num_rows
        self._uncommitted.filtered[aggregation.name] += found.filtered
        self._uncommitted.throttled[aggregation.name] += found.throttled
        limit = min(self._outlet.batch_bytes, self._outlet.room(aggregation.topic))
        for partition, rows in _shared(found, shares):
            for part in slices(ROLLUPS, rows, limit):
                headers = (*row_headers(ROLLUPS), ("rows", str(part.rows).encode()))
                yield Outbound(aggregation.topic, part.data, headers=headers, partition=partition)


def _shared(found: RolledUp, shares: Sequence[_Share]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the rollups of each partition."""
    start = 0
    for share in shares:
        stop = int(np.searchsorted(found.first, share.end))
        if stop > start:
            yield share.partition, found.rows.slice(start, stop - start)
        start = stop
