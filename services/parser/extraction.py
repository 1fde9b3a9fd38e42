"""What a kernel is: segments of one stream in, rows of some types and dead letters out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from libs.common.messages.dead_letters import DeadLetter
from libs.common.messages.segments import Segment
from libs.common.rows.row_type import RowType
from services.parser.dictionary_columns import Rows
from services.parser.letters import SourceOf, no_source


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
        tables: rows, by type. Several may be of one line: a request, and its span.
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
    source_of: SourceOf = no_source


class Kernel(Protocol):
    """Turns segments of one stream into rows."""

    def extract(self, arrived: Arrived, most_letters: float) -> Extraction:
        """Read segments.

        Raises:
            TooManyLetters: there would be more dead letters than `most_letters`.
        """
