"""Build one text per row from columns, without a Python object per row.

A row's text is a sequence of fragments, most of which many rows share: the text between two values, words of a dictionary,
everything that a record says about all its tuples. Each distinct fragment is therefore made once, a row becomes a sequence of
fragment numbers, and a single `take` of all numbers, row by row, gives the text of all rows: its buffer is their concatenation,
and a row ends at the offset after its last fragment. Each byte is copied once, and the fixed cost of an Arrow call is paid a
few times per slice instead of once per column.

Fewer fragments per row mean less work, so adjacent columns are merged where that is cheap: columns that seldom change from row
to row are joined once for each run of rows, and columns with few distinct words are joined once for each combination.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SLICE_BYTES: Final = 4_194_304
"""The most text that is made at once, unless a row has more: it bounds memory, and stays far below Arrow's limit of 2 GiB.
With much more, memory would be mapped anew each time, and the page faults would cost as much as the text."""

SLICE_ROWS: Final = 4_096
"""The most rows whose text is made at once."""

_ROWS_A_RUN: Final = 16  # with fewer rows, a text for each run costs more than it saves
_ROWS_A_JOINED_RUN: Final = 8
_ROWS_A_VALUE: Final = 4  # with more, numbers that lie so close together are distinct enough
_MOST_COMBINATIONS: Final = 256
_NO_TEXT: Final = 0  # the first fragment
_BLOCK_ROWS: Final = 8_192  # whose fragments are numbered together; larger blocks would not cost less
_MOST_JOINED: Final = 16_777_216  # characters of the texts of runs, which bounds memory
_SMALL_A_ROW: Final = 4  # small numbers that may be looked up: with fewer rows, fewer of them

Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Codes: TypeAlias = np.ndarray[Any, np.dtype[np.uint32]]
Bools: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class CodedTexts:
    """One of a few texts: ``texts[codes[row]]``."""

    texts: Sequence[str]
    codes: Codes

    @property
    def present(self) -> Bools:
        """The rows in which the text is not empty."""
        if all(self.texts):
            return np.ones(len(self.codes), np.bool_)
        present: Bools = np.array([bool(text) for text in self.texts], np.bool_)[self.codes]
        return present


@dataclass(frozen=True, slots=True)
class Spelling:
    """How integers are written.

    Attributes:
        small: returns the texts of the integers from 0 on, each at its place. To look one up costs less than to make it.
        spell: returns the texts of any integers.
    """

    small: Callable[[], pa.Array]
    spell: Callable[[Ints], pa.Array]


SMALL: Final = 65_536
"""How many integers `Spelling.small` has; each needs a few bytes, as long as the process runs."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Integers as they are spelled, in decimal in text; empty where a value is not valid."""

    values: Ints
    valid: Bools


TextColumn: TypeAlias = "str | CodedTexts | Numbers | pa.Array"
"""The same text in all rows, a word, a number, or a separate text for each row (strings; empty where one is null)."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """A text of each of `rows` rows, in pieces: columns without `Numbers`."""

    columns: Sequence[str | CodedTexts | pa.Array]
    rows: int

    def array(self) -> pa.Array:
        """Return the texts as one array of strings."""
        return pa.chunked_array(RowText(self.columns, self.rows).slices(), pa.string()).combine_chunks()

    def sizes(self) -> Ints:
        """Return the number of bytes of each text."""
        sizes = np.zeros(self.rows, np.int64)
        for column in self.columns:
            if isinstance(column, str):
                sizes += len(column.encode())
            elif isinstance(column, CodedTexts):
                sizes += np.array([len(text.encode()) for text in column.texts], np.int64)[column.codes]
            else:
                sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy()
        return sizes


def decimals(values: Ints) -> pa.Array:
    """Return the decimal text of each integer."""
    small = _small_decimals()
    return small.take(pa.array(values)) if ((values >= 0) & (values < len(small))).all() else _decimals(values)


def numbers(prefix: str, values: Ints, valid: Bools) -> list[TextColumn]:
    """Return a column of integers as text, each after `prefix`; empty, without the prefix, where a value is not valid."""
    seldom = runs(values)
    if seldom is None:
        return [when(prefix, valid), Numbers(values, valid)]
    few, codes = seldom
    return [where(valid, CodedTexts([f"{prefix}{value}" for value in few.tolist()], codes))]


def when(text: str, present: Bools) -> TextColumn:
    """Return `text` in the rows in which it is present, and nothing in the others."""
    return text if present.all() else CodedTexts(("", text), present.astype(np.uint32))


def where(present: Bools, words: CodedTexts) -> CodedTexts:
    """Return the words in the rows in which they are present, and nothing in the others."""
    if present.all():
        return words
    return CodedTexts([*words.texts, ""], np.where(present, words.codes, np.uint32(len(words.texts))))


def runs(values: Ints) -> tuple[Ints, Codes] | None:
    """Return the value of each run of equal values, and the number of each row's run; None if values change often."""
    starts = _slow_starts(values)
    return None if starts is None else (values[starts], _spread(starts, len(values)))


def distinct(values: Ints) -> tuple[Ints, Codes]:
    """Return the distinct values, some perhaps more than once or of no row, and the index of each row's value."""
    if (seldom := runs(values)) is not None:
        return seldom
    least, most = int(values.min()), int(values.max())
    if (most - least) * _ROWS_A_VALUE < len(values):
        return np.arange(least, most + 1), (values - least).astype(np.uint32)
    encoded = pa.array(values).dictionary_encode()
    return encoded.dictionary.to_numpy(), encoded.indices.to_numpy().astype(np.uint32)


def _slow_starts(values: np.ndarray[Any, Any]) -> Ints | None:
    """Return the first row, and each row that differs from the one before it; None if values change often."""
    changes = values[1:] != values[:-1]
    if (np.count_nonzero(changes) + min(1, len(values))) * _ROWS_A_RUN > len(values):
        return None
    return np.concatenate(([0], np.flatnonzero(changes) + 1))[: len(values)]


def _spread(starts: Ints, rows: int) -> Codes:
    """Return the number of each row's run."""
    return np.repeat(np.arange(len(starts), dtype=np.uint32), np.diff(starts, append=rows))


class RowText:
    """The texts of `rows` rows. Fragments that many rows share are made once, here."""

    def __init__(self, columns: Sequence[TextColumn], rows: int, spelling: Spelling | None = None) -> None:
        """Take columns of `rows` rows; numbers are spelled in decimal unless told otherwise."""
        self._rows = rows
        self._spelling = spelling or DECIMAL
        self._columns = _combined(_by_run(columns, rows), min(rows, _MOST_COMBINATIONS))
        texts = [""]
        self._first = [_add_texts(texts, column) for column in self._columns]
        self._fixed = self._array(texts)

    def slices(self) -> Iterator[pa.Array]:
        """Yield the texts as arrays of strings, a bounded number of rows at a time."""
        for start in range(0, self._rows, _BLOCK_ROWS):
            yield from self._block(slice(start, min(start + _BLOCK_ROWS, self._rows)))

    def _block(self, rows: slice) -> Iterator[pa.Array]:
        count = rows.stop - rows.start
        fragments = _Fragments([self._fixed], len(self._fixed))
        numbers = iter(self._numbers(fragments, rows))
        each = np.arange(count, dtype=np.uint32)
        line = np.empty((count, len(self._columns)), np.uint32)
        for place, (column, first) in enumerate(zip(self._columns, self._first, strict=True)):
            match column:
                case str():
                    line[:, place] = first
                case CodedTexts():
                    np.add(column.codes[rows], np.uint32(first), out=line[:, place])
                case Numbers():
                    line[:, place] = next(numbers)
                case _:
                    np.add(each, np.uint32(fragments.add(column[rows])), out=line[:, place])
        sizes = fragments.sizes()[line].sum(axis=1)
        line, sizes = self._line(fragments, line, sizes)
        every = fragments.all()
        for some in _cut(sizes):
            yield _taken(every, line[some])

    def _numbers(self, fragments: _Fragments, rows: slice) -> Codes:
        """Add the text of all numbers; return for each column of them the numbers of their fragments."""
        columns = [column for column in self._columns if isinstance(column, Numbers)]
        if not columns:
            return np.empty((0, 0), np.uint32)
        values = np.stack([column.values[rows] for column in columns])
        small = self._spelling.small()[: _SMALL_A_ROW * values.shape[1]]
        large = np.flatnonzero(values.view(np.uint64) >= len(small))  # negative ones too
        codes = (values + fragments.add(small)).astype(np.uint32)
        if len(large):
            first = fragments.add(self._spelling.spell(values.ravel()[large]))
            codes.ravel()[large] = np.arange(first, first + len(large), dtype=np.uint32)
        for place, column in enumerate(columns):
            if not (valid := column.valid[rows]).all():
                codes[place, ~valid] = _NO_TEXT
        return codes

    def _line(self, fragments: _Fragments, line: Codes, sizes: Ints) -> tuple[Codes, Ints]:
        """Return the numbers of each row's fragments and its size in bytes, given those of its columns."""
        del fragments
        return line, sizes

    @staticmethod
    def _array(texts: Iterable[str]) -> pa.Array:
        """Return texts as an array of the kind that `slices` yields."""
        return pa.array(texts, pa.string())


class RowBytes(RowText):
    """The same for bytes: arrays are binary, and in other texts each character is the byte with its number (Latin-1)."""

    def __init__(self, columns: Sequence[TextColumn], rows: int, spelling: Spelling) -> None:
        super().__init__(columns, rows, spelling)

    @staticmethod
    def _array(texts: Iterable[str]) -> pa.Array:
        """Return texts as an array of bytes."""
        return pa.array([text.encode("latin-1") for text in texts], pa.binary())


class SizedBytes(RowBytes):
    """The same for formats in which something that depends on its size precedes a row.

    `prefix` returns it, as bytes, for the numbers of bytes of rows.
    """

    def __init__(
        self, columns: Sequence[TextColumn], rows: int, spelling: Spelling, prefix: Callable[[Ints], pa.Array]
    ) -> None:
        super().__init__(columns, rows, spelling)
        self._prefix = prefix

    def _line(self, fragments: _Fragments, line: Codes, sizes: Ints) -> tuple[Codes, Ints]:
        """Put the prefix before each row."""
        prefixes = self._prefix(sizes)
        before = np.arange(len(line), dtype=np.uint32) + np.uint32(fragments.add(prefixes))
        return np.column_stack((before, line)), sizes + pc.binary_length(prefixes).to_numpy()


@dataclass(slots=True)
class _Fragments:
    """The fragments of a block and their number."""

    arrays: list[pa.Array]
    count: int

    def add(self, texts: pa.Array) -> int:
        """Add fragments and return the number of the first."""
        self.arrays.append(texts)
        first, self.count = self.count, self.count + len(texts)
        return first

    def all(self) -> pa.Array:
        """Return all fragments, in the order of their numbers."""
        return pa.concat_arrays(self.arrays)

    def sizes(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Return the number of bytes of each fragment, in the order of their numbers."""
        return np.concatenate([pc.fill_null(pc.binary_length(texts), 0).to_numpy() for texts in self.arrays])


def _cut(sizes: Ints) -> Iterator[slice]:
    """Yield slices of rows of these sizes, of at most so many rows and bytes."""
    ends = np.cumsum(sizes)
    start = before = 0
    while start < len(ends):
        fitting = int(np.searchsorted(ends, before + SLICE_BYTES, side="right"))
        stop = max(start + 1, min(fitting, start + SLICE_ROWS))
        yield slice(start, stop)
        start, before = stop, int(ends[stop - 1])


def _decimals(values: Ints) -> pa.Array:
    return pa.array(values).cast(pa.string())


@cache
def _small_decimals() -> pa.Array:
    return _decimals(np.arange(SMALL))


DECIMAL: Final = Spelling(_small_decimals, _decimals)


def _taken(fragments: pa.Array, line: Codes) -> pa.Array:
    """Return the text of each row: its fragments, concatenated."""
    rows, columns = line.shape
    if not columns:
        return pa.repeat(pa.scalar("", fragments.type), rows)
    taken = pc.take(fragments, pa.array(line.ravel()), boundscheck=False)
    _, offsets, data = taken.buffers()
    ends = np.frombuffer(offsets, np.int32)[: rows * columns + 1 : columns].copy()
    return pa.Array.from_buffers(fragments.type, rows, [None, pa.py_buffer(ends), data])


# --- Fewer columns ---


def _by_run(columns: Sequence[TextColumn], rows: int) -> list[TextColumn]:
    """Merge adjacent word columns that seldom change into one, with a text for each run of rows that are equal in all."""
    plain = [column.texts[0] if isinstance(column, CodedTexts) and len(column.texts) == 1 else column for column in columns]
    slow = {
        id(column): starts
        for column in plain
        if isinstance(column, CodedTexts) and (starts := _slow_starts(column.codes)) is not None
    }
    starts = np.unique(np.concatenate([np.zeros(1, np.int64), *slow.values()]))
    if len(starts) * _ROWS_A_JOINED_RUN > rows:
        return plain
    run = _spread(starts, rows)
    joined: list[TextColumn] = []
    for _, group in groupby(plain, lambda column: isinstance(column, str) or id(column) in slow):
        parts = list(group)
        texts = _joined(parts, starts) if sum(id(part) in slow for part in parts) > 1 else None
        joined += parts if texts is None else [CodedTexts(texts, run)]
    return joined


def _joined(parts: Sequence[TextColumn], starts: Ints) -> list[str] | None:
    """Return the text of each run; None if all of them together are too long."""
    words = [_at(part, starts) for part in parts if isinstance(part, str | CodedTexts)]
    if sum(_characters(part, len(starts)) for part in words) > _MOST_JOINED:
        return None
    columns = [
        [part] * len(starts) if isinstance(part, str) else map(part.texts.__getitem__, part.codes.tolist()) for part in words
    ]
    return list(map("".join, zip(*columns, strict=True)))


def _characters(part: str | CodedTexts, rows: int) -> int:
    """Return how many characters a column has at most in total."""
    return rows * (len(part) if isinstance(part, str) else max(map(len, part.texts)))


def _at(column: str | CodedTexts, rows: Ints) -> str | CodedTexts:
    return column if isinstance(column, str) else CodedTexts(column.texts, column.codes[rows])


def _combined(columns: Sequence[TextColumn], most: int) -> list[TextColumn]:
    """Merge adjacent columns with few words, and the text between them, into one column of all their combinations."""
    combined: list[TextColumn] = []
    for column in columns:
        last = combined[-1] if combined else None
        if (
            isinstance(last, str | CodedTexts)
            and isinstance(column, str | CodedTexts)
            and _count(last) * _count(column) <= most
        ):
            combined[-1] = _both(last, column)
        elif column != "":
            combined.append(column)
    return combined


def _both(one: str | CodedTexts, other: str | CodedTexts) -> str | CodedTexts:
    if isinstance(one, str):
        return one + other if isinstance(other, str) else CodedTexts([one + text for text in other.texts], other.codes)
    if isinstance(other, str):
        return CodedTexts([text + other for text in one.texts], one.codes)
    texts = [first + second for first in one.texts for second in other.texts]
    return CodedTexts(texts, one.codes * np.uint32(len(other.texts)) + other.codes)


def _count(column: str | CodedTexts) -> int:
    return 1 if isinstance(column, str) else len(column.texts)


def _add_texts(texts: list[str], column: TextColumn) -> int:
    """Add those texts of a column that all slices share; return the number of the first."""
    first = len(texts)
    if isinstance(column, str):
        texts.append(column)
    elif isinstance(column, CodedTexts):
        texts += column.texts
    return first
