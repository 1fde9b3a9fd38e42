"""Where tuples stand: run lengths to numbers and back. Pure.

Tuples are numbered through a whole call, in order of segments, records and arrays, whatever became of them. From that number
follow the tuple's array, its record and its index in the record.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.parser.flows.dictionary_columns import Rows
from services.parser.flows.gathering import Gathered


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows come from: for each row the number of its array and of its record, and its index among the record's tuples."""

    array: Rows
    record: Rows
    tuple_index: Rows


def record_of_array(gathered: Gathered) -> Rows:
    """Return for each tuple array the number of its record."""
    ends = np.array(gathered.array_ends, np.int64)
    return np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))


class TupleNumbers:
    """Numbers of all tuples, given how many each array has."""

    def __init__(self, gathered: Gathered, counts: Rows) -> None:
        self._counts = counts
        self._record_of_array = record_of_array(gathered)
        # With the end of the last one, so that records without arrays at the end have a place too.
        self._first_of_array = np.concatenate(([0], np.cumsum(counts)))
        ends = np.array(gathered.array_ends, np.int64)
        first_of_record = self._first_of_array[np.concatenate(([0], ends[:-1]))[: len(ends)]]
        self._index_shift = np.array(gathered.first_tuples, np.int64) - first_of_record

    def of_arrays(self, arrays: Rows) -> Rows:
        """Number all tuples of these arrays, which are ascending."""
        counts = self._counts[arrays]
        if len(arrays) == len(self._counts):
            return np.arange(counts.sum())
        shifts = self._first_of_array[arrays] - (np.cumsum(counts) - counts)
        return np.repeat(shifts, counts) + np.arange(counts.sum())

    def origin(self, numbers: Rows) -> Origin:
        """Tell where the tuples with these numbers stand."""
        array = np.repeat(np.arange(len(self._counts)), self._counts)
        if len(numbers) != len(array):
            array = array[numbers]
        record = self._record_of_array[array]
        return Origin(array, record, numbers + self._index_shift[record])
