"""Read lines of JSON objects, each with the first of some formats that recognizes it. Pure but for the shapes that are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from services.parser.dictionary_columns import Rows
from services.parser.logs.extract import Extract, Verdicts, merged
from services.parser.logs.formats.json_format import JsonFormat
from services.parser.logs.json_lines import Objects, read_objects, read_texts
from services.parser.logs.members import MemberColumns
from services.parser.logs.options import Surroundings
from services.parser.logs.readings import Reading, Readings
from services.parser.logs.shapes import Shapes


class JsonReader:
    """Reads lines of some formats, of which the last one recognizes all."""

    def __init__(self, formats: Sequence[JsonFormat]) -> None:
        self._formats = formats
        self._shapes = Shapes()
        self._readings = Readings([one.recognize for one in formats])

    def lines(self, numbers: Rows, surroundings: Surroundings, verdicts: Verdicts) -> Iterator[Extract]:
        """Yield the rows of some of all lines; those that are no object are refused."""
        read = read_objects(surroundings.lines, numbers, self._shapes, verdicts.refuse)
        return self._extracts(read, surroundings, verdicts)

    def texts(self, numbers: Rows, texts: Sequence[bytes], surroundings: Surroundings, verdicts: Verdicts) -> Iterator[Extract]:
        """Yield the rows of lines that are given as JSON; those that are no object are refused."""
        return self._extracts(read_texts(numbers, texts, self._shapes, verdicts.refuse), surroundings, verdicts)

    def _extracts(self, read: Iterable[Objects], surroundings: Surroundings, verdicts: Verdicts) -> Iterator[Extract]:
        found: list[list[Extract]] = [[] for _ in self._formats]
        for objects in read:
            for number, members in self._recognized(objects):
                found[number] += self._formats[number].extract(members, verdicts)
        for extracts, form in zip(found, self._formats, strict=True):
            if form.finish is None or not extracts:
                yield from extracts
            else:
                yield form.finish(merged(extracts), surroundings)

    def _recognized(self, objects: Objects) -> Iterator[tuple[int, MemberColumns]]:
        """Yield the lines of each format, and its number."""
        pair = objects.shape * (len(objects.tails) + 1) + objects.tail + 1
        _, examples, reading = np.unique(pair, return_index=True, return_inverse=True)
        readings: list[Reading] = []
        for line, tail in zip(objects.shape[examples].tolist(), objects.tail[examples].tolist(), strict=True):
            readings.append(self._readings.of(objects.shapes[line], objects.tails[tail] if tail >= 0 else None))
        of_format = np.array([one.format for one in readings], np.int64)
        for number in np.unique(of_format).tolist():
            own = np.flatnonzero(of_format == number)
            if len(own) == len(readings):
                yield number, MemberColumns(objects, np.arange(len(objects)), readings, reading)
                return
            chosen = np.flatnonzero(of_format[reading] == number)
            renumbered = np.searchsorted(own, reading[chosen])
            yield number, MemberColumns(objects, chosen, [readings[one] for one in own.tolist()], renumbered)
