"""The parser's kernel: segments in, one record batch and dead letters out. Pure; no bytes make it raise.

All segments of one poll are parsed in one call, because a call has a fixed cost and most segments are small. Python touches
records and tuple arrays; tuples exist only as text and as columns. A native kernel could replace `parse` without any change
elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from libs.common.messages.dead_letters import DeadLetter
from libs.common.messages.segments import Segment
from libs.common.rows.types.flows import FLOW_SCHEMA
from services.parser.dictionary_columns import Rows
from services.parser.flows.batch import flow_batch
from services.parser.flows.columns import flow_columns, is_strict
from services.parser.flows.examine import BadTuples, examine
from services.parser.flows.formats.layout import TupleLayout
from services.parser.flows.gathering import Bound, Gathered, gather
from services.parser.flows.positions import TupleNumbers, record_of_array
from services.parser.flows.tuples import TupleText, tuple_text
from services.parser.letters import Refusal, SourceOf, no_source

_BAD_AT_ONCE = 10_000  # number of bad tuples turned into Python objects at a time


@dataclass(frozen=True, slots=True)
class Parsed:
    """The result of parsing segments.

    Attributes:
        batch: rows of schema `FLOW_SCHEMA`; within a blob in order of record and tuple, if the segments are in order.
        dead_letters: tuples, records, and bytes that are not JSON, which could not become rows.
        records: number of records read (without those in `dead_letters`).
        segment_rows: for each segment, in order, how many rows of the batch come from it.
    """

    batch: pa.RecordBatch
    segment_rows: Rows
    dead_letters: list[DeadLetter]
    records: int


@dataclass(frozen=True, slots=True)
class _Part:
    """The tuples of one layout: arrays with their counts, columns and numbers of good tuples, and the bad tuples."""

    arrays: Rows
    counts: Rows
    columns: dict[str, pa.Array]
    good: Rows
    bad: BadTuples | None = None


def parse(segments: Sequence[Segment], source_of: SourceOf = no_source, most_letters: float = math.inf) -> Parsed:
    """Turn segments into rows and dead letters.

    `source_of` tells for the number of a segment the Kafka coordinates that its dead letters carry.

    Raises:
        TooManyLetters: there would be more than `most_letters`.
    """
    return parse_gathered(gather(segments, source_of, Bound(most_letters)))


def parse_gathered(gathered: Gathered) -> Parsed:
    """Turn gathered records into rows, and into dead letters in addition to those in `gathered`.

    Raises:
        TooManyLetters: there would be more than `gathered` allows.
    """
    parts = _parts(gathered)
    counts = np.zeros(len(gathered.groups.tuples), np.int64)
    for part in parts:
        counts[part.arrays] = part.counts
    positions = TupleNumbers(gathered, counts)
    for part in parts:
        _refuse(part, positions, gathered)
    numbers, columns = _in_order([part for part in parts if len(part.good)], positions)
    origin = positions.origin(numbers)
    segments = np.array(gathered.segment_of, np.int64)[origin.record]
    segment_rows = np.bincount(segments, minlength=len(gathered.segments))
    batch = flow_batch(columns, origin, gathered) if columns else pa.RecordBatch.from_pylist([], schema=FLOW_SCHEMA)
    return Parsed(batch, segment_rows, gathered.letters, len(gathered.records))


def _parts(gathered: Gathered) -> list[_Part]:
    layouts = {layout: number for number, layout in enumerate(dict.fromkeys(gathered.layouts))}
    owner = record_of_array(gathered)
    layout_of_array = np.array([layouts[layout] for layout in gathered.layouts], np.int64)[owner]
    parts = []
    for layout, number in layouts.items():
        arrays = np.flatnonzero(layout_of_array == number)
        if len(arrays):
            raw = gathered.groups.tuples
            tuples = tuple_text(raw if len(arrays) == len(raw) else [raw[i] for i in arrays.tolist()])
            parts.append(_part(arrays, tuples, layout))
    return parts


def _part(arrays: Rows, tuples: TupleText, layout: TupleLayout) -> _Part:
    if tuples.rows and is_strict(tuples.text):
        columns = flow_columns(tuples.text, tuples.rows, layout)
        if columns is not None:
            return _Part(arrays, tuples.counts, columns, np.arange(tuples.rows))
    if not tuples.rows:
        return _Part(arrays, tuples.counts, {}, np.arange(0))
    examined = examine(tuples, layout)
    columns = flow_columns(examined.text, len(examined.good), layout) if len(examined.good) else {}
    if columns is None:
        raise AssertionError(f"{layout.name}: tuples that were examined and found good cannot be read")
    return _Part(arrays, tuples.counts, columns, examined.good, examined.bad)


def _refuse(part: _Part, positions: TupleNumbers, gathered: Gathered) -> None:
    """Add dead letters for the bad tuples of `part`."""
    if part.bad is None:
        return
    numbers = positions.of_arrays(part.arrays)
    for bad in part.bad.slices(_BAD_AT_ONCE):
        origin = positions.origin(numbers[bad.rows])
        for one, record, index in zip(bad, origin.record.tolist(), origin.tuple_index.tolist(), strict=True):
            segment, offset = gathered.segment_of[record], gathered.offsets[record]
            gathered.refuse(segment, offset, Refusal(one.code, one.reason, one.data, index))


def _in_order(parts: list[_Part], positions: TupleNumbers) -> tuple[Rows, dict[str, pa.Array]]:
    """Return the numbers of the good tuples, ascending, and their columns."""
    if not parts:
        return np.arange(0), {}
    numbers = np.concatenate([positions.of_arrays(part.arrays)[part.good] for part in parts])
    if len(parts) == 1:
        return numbers, parts[0].columns
    # Records of several formats may alternate: restore the order of the text.
    order = np.argsort(numbers)
    return numbers[order], _concatenated([part.columns for part in parts], order)


def _concatenated(parts: list[dict[str, pa.Array]], order: Rows) -> dict[str, pa.Array]:
    table = (
        pa.concat_tables([pa.table(columns) for columns in parts]).unify_dictionaries().combine_chunks().take(pa.array(order))
    )
    return {name: table.column(name).combine_chunks() for name in table.column_names}
