"""The fields of lines that one format reads, as columns. Pure: a column costs a few operations on arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.parser.dictionary_columns import Rows, spread_words
from services.parser.logs.extract import valid
from services.parser.logs.json_lines import Objects
from services.parser.logs.leftovers import with_member
from services.parser.logs.lines import Flags
from services.parser.logs.readings import Reading, RestTemplate
from services.parser.logs.shapes import Constant
from services.parser.logs.templates import filled
from services.parser.logs.texts import as_words, without_dashes


@dataclass(frozen=True, eq=False)
class MemberColumns:
    """The fields of lines that one format reads.

    Attributes:
        objects: the lines, and others.
        chosen: index in `objects` of each line.
        readings, reading: how lines are read, and for each line the index of its reading.
    """

    objects: Objects
    chosen: Rows
    readings: Sequence[Reading]
    reading: Rows
    _taken: dict[tuple[str, bool], pa.StringArray] = field(default_factory=dict)
    _left: dict[str, Rows] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.chosen)

    @cached_property
    def numbers(self) -> Rows:
        """The numbers of the lines among all lines."""
        return self.objects.numbers[self.chosen]

    def has(self, name: str) -> bool:
        """Return whether any line has a field."""
        return any(name in reading.leaves for reading in self.readings)

    def take(self, names: Collection[str], dashed: Collection[str] = ()) -> None:
        """Take fields that will be asked for, at once: that is much faster. Those of `dashed` are taken as `text` says."""
        wanted = [(name, dash) for dash, some in ((False, names), (True, dashed)) for name in some if self._has_slot(name)]
        if not wanted:
            return
        slots = [self._slots(name) for name, _ in wanted]
        columns = self.objects.values(self._places, slots, [dash for _, dash in wanted])
        self._taken.update(zip(wanted, columns, strict=True))

    def text(self, name: str, *, dash: bool = False) -> pa.StringArray:
        """Return a field as text, numbers as they are written; null where it is null or not there, and for ``-`` if `dash`."""
        if (name, dash) not in self._taken:
            self.take(() if dash else (name,), (name,) if dash else ())
        found, constants = self._taken.get((name, dash)), self._constants(name)
        if found is not None and not any(constants):
            return found
        same = pa.array(constants, pa.string()).take(pa.array(self.reading))
        same = without_dashes(same) if dash else same
        return same if found is None else pc.coalesce(found, same)

    def words(self, name: str, *, dash: bool = False) -> pa.DictionaryArray:
        """Return a field as words; `dash` as in `text`."""
        if self._has_slot(name):
            return as_words(self.text(name, dash=dash))
        words = spread_words(self._constants(name), self.reading)
        return without_dashes(words) if dash else words

    def converted(
        self,
        name: str,
        convert: Callable[[pa.StringArray], pa.Array],
        *,
        dash: bool = False,
        needed: Flags | None = None,
    ) -> pa.Array:
        """Return what `convert` makes of a field. Text of which it makes null counts as not read.

        `dash` as in `text`; of lines that are not `needed`, by default all are, nothing counts as not read.
        """
        texts = self.text(name, dash=dash)
        found = convert(texts)
        if found.null_count > texts.null_count:
            left = valid(texts) & ~valid(found)
            self._left[name] = np.flatnonzero(left if needed is None else left & needed)
        return found

    def rest(self) -> pa.StringArray:
        """Return what is not read of the records, as JSON objects; null if that is nothing. To be asked for at last."""
        found = self._filled([reading.rest for reading in self.readings])
        return self._with_left(found) if self._left else found

    def source_rest(self) -> pa.DictionaryArray:
        """Return what is not read of their sources, as words of JSON."""
        templates = [reading.source_rest for reading in self.readings]
        if any(one.slots for one in templates if one is not None):
            return self._filled(templates).dictionary_encode()
        return spread_words([None if one is None else one.texts[0] for one in templates], self.reading)

    @cached_property
    def _places(self) -> Rows:
        return self.objects.places[self.chosen]

    def _has_slot(self, name: str) -> bool:
        return any(isinstance(reading.leaves.get(name), int) for reading in self.readings)

    def _slots(self, name: str) -> Rows | int:
        """Return the slot of a field in each line, or in all lines; -1 if there is none."""
        found = [leaf if isinstance(leaf := reading.leaves.get(name), int) else -1 for reading in self.readings]
        return found[0] if len(set(found)) == 1 else np.array(found, np.int64)[self.reading]

    def _constants(self, name: str) -> list[str | None]:
        """Return the value of a field that is the same in all lines of each reading."""
        leaves = (reading.leaves.get(name) for reading in self.readings)
        return [leaf.text if isinstance(leaf, Constant) else None for leaf in leaves]

    def _filled(self, templates: Sequence[RestTemplate | None]) -> pa.StringArray:
        first_piece = self.objects.slots.first_piece()[self._places]
        return filled(templates, self.reading, self.objects.pieces, first_piece)

    def _with_left(self, documents: pa.StringArray) -> pa.StringArray:
        """Add text that could not be converted to what is not read."""
        texts: list[str | None] = documents.to_pylist()
        for name, rows in self._left.items():
            for row, text in zip(rows.tolist(), self.text(name).take(pa.array(rows)).to_pylist(), strict=True):
                texts[row] = with_member(texts[row], *self.readings[self.reading[row]].written(name, text))
        return pa.array(texts, pa.string())
