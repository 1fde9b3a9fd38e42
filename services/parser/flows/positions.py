"""Positions of tuples: convert run lengths to numbers and back. Pure.

Tuples are numbered across a whole call, in order of segments, records and arrays, whatever their outcome. The number determines
the tuple's array, its record and its index in the record.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.parser.dictionary_columns import Rows
from services.parser.flows.gathering import Gathered


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of rows: for each row, the numbers of its array and record, and its index among the record's tuples."""

    array: Rows
    record: Rows
    tuple_index: Rows


def record_of_array(gathered: Gathered) -> Rows:
    """Return the number of the record of each tuple array."""
    ends = np.array(gathered.array_ends, np.int64)
    return np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))


class TupleNumbers:
    """Numbers of all tuples, given the size of each array."""

    def __init__(self, gathered: Gathered, counts: Rows) -> None:
        self._counts = counts
        self._record_of_array = record_of_array(gathered)
        # Including the end of the last one, so that trailing records without arrays have a position too.
        self._first_of_array = np.concatenate(([0], np.cumsum(counts)))
        ends = np.array(gathered.array_ends, np.int64)
        first_of_record = self._first_of_array[np.concatenate(([0], ends[:-1]))[: len(ends)]]
        self._index_shift = np.array(gathered.first_tuples, np.int64) - first_of_record

    def of_arrays(self, arrays: Rows) -> Rows:
        """Return the numbers of all tuples in these arrays, which are in ascending order."""
        counts = self._counts[arrays]
        if len(arrays) == len(self._counts):
            return np.arange(counts.sum())
        shifts = self._first_of_array[arrays] - (np.cumsum(counts) - counts)
        return np.repeat(shifts, counts) + np.arange(counts.sum())

    def origin(self, numbers: Rows) -> Origin:
        """Return the positions of the tuples with these numbers."""
        array = np.repeat(np.arange(len(self._counts)), self._counts)
        if len(numbers) != len(array):
            array = array[numbers]
        record = self._record_of_array[array]
        return Origin(array, record, numbers + self._index_shift[record])
