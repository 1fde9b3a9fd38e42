"""The streams that the parser reads: how the segments of each become rows. A kernel behind each of them does the work.

A stream is read from its raw topic. Its rows go to the topics of their types, on the partition of their segment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.messages.dead_letters import DeadLetter
from libs.common.messages.segments import Segment
from libs.common.rows.row_type import RowType
from libs.common.rows.types.flows import FLOWS
from services.parser.dictionary_columns import Rows
from services.parser.flows.kernel import parse
from services.parser.letters import SourceOf
from services.parser.logs.kernel import LogKernel
from services.parser.logs.options import LogOptions

PARSE_BYTES: Final = 4_194_304
"""Bytes that are parsed together: each parse has a fixed cost, but beyond this there is nothing more to gain."""


@dataclass(frozen=True, slots=True)
class TypedRows:
    """Rows of one type in the order of their segments, and how many of them are of each segment."""

    row_type: RowType
    batch: pa.RecordBatch
    segment_rows: Rows


@dataclass(frozen=True, slots=True)
class Extraction:
    """What segments gave.

    Attributes:
        tables: rows, by type.
        segment_good: for each segment, how many of its tuples or lines were read.
        dead_letters: what could not be read.
        records: number of records or lines, without those in `dead_letters`.
        skipped: how many lines are no rows without being bad, by the reason.
        newest: when the newest record was written, in nanoseconds since 1970, as far as known.
    """

    tables: tuple[TypedRows, ...]
    segment_good: Rows
    dead_letters: list[DeadLetter]
    records: int
    skipped: Counter[str] = field(default_factory=Counter)
    newest: int | None = None


@dataclass(frozen=True, slots=True)
class Arrived:
    """Segments, when each was written to Kafka (nanoseconds since 1970), and where their dead letters say they came from."""

    segments: Sequence[Segment]
    times: Sequence[int]
    source_of: SourceOf


class Kernel(Protocol):
    """Turns segments of one stream into rows."""

    def extract(self, arrived: Arrived, most_letters: float) -> Extraction:
        """Read segments.

        Raises:
            TooManyLetters: there would be more dead letters than `most_letters`.
        """


@dataclass(frozen=True, slots=True)
class InputStream:
    """One stream: its kernel, and the topic of each row type by name."""

    kernel: Kernel
    topics: Mapping[str, str]


class FlowStream:
    """Flow logs."""

    def extract(self, arrived: Arrived, most_letters: float) -> Extraction:
        """See `Kernel`."""
        parsed = parse(arrived.segments, arrived.source_of, most_letters)
        rows = TypedRows(FLOWS, parsed.batch, parsed.segment_rows)
        newest = pc.max(parsed.batch["record_time"].cast(pa.int64())).as_py()
        return Extraction((rows,), parsed.segment_rows, parsed.dead_letters, parsed.records, newest=newest)


class LogStream:
    """Logs of applications or of proxies."""

    def __init__(self, options: LogOptions, *, of_proxies: bool) -> None:
        self._kernel = LogKernel(options, is_proxy_stream=of_proxies)

    def extract(self, arrived: Arrived, most_letters: float) -> Extraction:
        """See `Kernel`."""
        parsed = self._kernel.parse(arrived.segments, arrived.times, arrived.source_of, most_letters)
        tables = tuple(TypedRows(one.row_type, one.batch, one.segment_rows) for one in parsed.tables)
        good = parsed.segment_skipped + sum(one.segment_rows for one in tables)
        newest = [pc.max(one.batch[one.row_type.time].cast(pa.int64())).as_py() for one in tables]
        skipped: Counter[str] = Counter({reason.value: count for reason, count in parsed.skipped.items()})
        return Extraction(tables, good, parsed.dead_letters, parsed.lines, skipped, max(newest, default=None))
