"""The kernel of logs: segments of lines in, record batches and dead letters out. Pure but for the shapes that it keeps.

No bytes make it raise. All segments of one poll are read in one call, as `services.parser.flows.kernel` does it. Python touches
shapes of lines and columns, never lines, except for those that are unusual.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.messages.segments import Segment
from libs.common.rows.types.application import APPLICATION
from libs.common.rows.types.http import HTTP
from libs.common.rows.types.proxy import PROXY
from services.parser.dictionary_columns import Rows
from services.parser.extraction import Arrived, Extraction
from services.parser.letters import TooManyLetters
from services.parser.logs.extract import Extract, LineSkip, Verdicts, flags
from services.parser.logs.formats.access_json import ACCESS_JSON
from services.parser.logs.formats.access_text import access_text
from services.parser.logs.formats.azure import AZURE
from services.parser.logs.formats.container import CONTAINER
from services.parser.logs.formats.generic import generic_formats
from services.parser.logs.formats.http_json import HTTP_JSON
from services.parser.logs.formats.json_format import JsonFormat, without_field
from services.parser.logs.formats.log4j2 import LOG4J2
from services.parser.logs.formats.plain import kubelet, plain
from services.parser.logs.formats.text_format import TextLines
from services.parser.logs.formats.w3c import w3c
from services.parser.logs.json_reader import JsonReader
from services.parser.logs.lines import Flags, Lines, lines_of
from services.parser.logs.logfmt import as_json, is_logfmt
from services.parser.logs.options import LogOptions, Surroundings
from services.parser.logs.refused import RefusedLines
from services.parser.logs.rows import CACHE_STATUS, batch_of, row_types_of
from services.parser.logs.spans import spans_of

_NOT_UTF8: Final = "not UTF-8"
_BRACE: Final = ord("{")
_INSIDE: Final = frozenset(b'"} \t')
_BLANKS: Final = list(b" \t")
_DEEPEST_INDENT: Final = 64


class LogKernel:
    """Reads the segments of one stream."""

    def __init__(self, options: LogOptions, *, is_proxy_stream: bool) -> None:
        self._options = options
        self._is_proxy_stream = is_proxy_stream
        self._json = self._reader(ACCESS_JSON, HTTP_JSON, LOG4J2, CONTAINER, AZURE, *generic_formats("json", options))
        self._logfmt = self._reader(*generic_formats("logfmt", options))

    def _reader(self, *formats: JsonFormat) -> JsonReader:
        # Only rows of proxies have that column.
        return JsonReader(formats if self._is_proxy_stream else [without_field(one, CACHE_STATUS) for one in formats])

    def extract(self, arrived: Arrived, most_letters: float = math.inf) -> Extraction:
        """Read segments; see `Kernel`.

        Raises:
            TooManyLetters: there would be more dead letters than `most_letters`.
        """
        segments, source_of = arrived.segments, arrived.source_of
        lines, broken = lines_of(segments)
        surroundings = Surroundings(lines, np.array(arrived.times, np.int64), self._options)
        verdicts = Verdicts()
        extracts = list(self._extracts(surroundings, verdicts))
        refused = RefusedLines.of(lines, broken, verdicts)
        if len(refused) > most_letters:
            raise TooManyLetters(refused.letters(segments, source_of, int(most_letters)))
        letters = refused.letters(segments, source_of, len(refused))
        return self._extraction(segments, surroundings, extracts, (verdicts, letters))

    def _extraction(
        self,
        segments: Sequence[Segment],
        surroundings: Surroundings,
        extracts: list[Extract],
        outcome: tuple[Verdicts, list[DeadLetter]],
    ) -> Extraction:
        verdicts, letters = outcome
        lines = surroundings.lines
        row_types = (APPLICATION, HTTP, PROXY) if self._is_proxy_stream else (APPLICATION, HTTP)
        of_type: dict[str, list[Extract]] = {row_type.name: [] for row_type in row_types}
        for extract in extracts:
            for row_type, some in row_types_of(extract, is_proxy_stream=self._is_proxy_stream):
                of_type[row_type.name] += [some] if len(some.lines) else []
        made = [batch_of(one, of_type[one.name], segments, surroundings) for one in row_types if of_type[one.name]]
        tables = [one.typed for one in made]
        skipped = np.concatenate([np.empty(0, np.int64), *(numbers for numbers, _ in verdicts.skipped)])
        good = np.bincount(lines.segment[skipped], minlength=len(segments)) + sum(one.segment_rows for one in tables)
        refused = sum(len(numbers) for numbers, _, _ in verdicts.refused)
        newest = [pc.max(one.batch[one.row_type.time].cast(pa.int64())).as_py() for one in tables]
        if self._options.spans:
            tables += spans_of([one for one in made if one.typed.row_type is not APPLICATION], len(segments))
        return Extraction(tuple(tables), good, letters, len(lines) - refused, verdicts.counts, max(newest, default=None))

    def _extracts(self, surroundings: Surroundings, verdicts: Verdicts) -> Iterator[Extract]:
        lines = surroundings.lines
        readable = _readable(lines, verdicts)
        is_json = _is_json(lines, readable)
        yield from self._json.lines(np.flatnonzero(is_json), surroundings, verdicts)
        yield from self._of_texts(np.flatnonzero(readable & ~is_json), surroundings, verdicts)

    def _of_texts(self, numbers: Rows, surroundings: Surroundings, verdicts: Verdicts) -> Iterator[Extract]:
        if not len(numbers):
            return
        lines = TextLines.of(numbers, surroundings)
        blank = flags(pc.equal(pc.ascii_trim_whitespace(lines.values), ""))
        verdicts.skip(lines.numbers[blank], LineSkip.BLANK_LINE)
        lines = lines.only(~blank)
        for read in (w3c, access_text, kubelet, self._read_logfmt, plain):
            if not len(lines):
                return
            extracts, lines = read(lines, verdicts)
            yield from extracts

    def _read_logfmt(self, lines: TextLines, verdicts: Verdicts) -> tuple[list[Extract], TextLines]:
        values = lines.values
        found = is_logfmt(values)
        if not found.any():
            return [], lines
        texts = as_json(values.filter(pa.array(found))).cast(pa.binary()).to_pylist()
        read = Verdicts()
        extracts = list(self._logfmt.texts(lines.numbers[found], texts, lines.surroundings, read))
        others = [numbers for numbers, code, _ in read.refused if code is ErrorCode.BAD_JSON]
        verdicts.refused += [one for one in read.refused if one[1] is not ErrorCode.BAD_JSON]
        verdicts.skipped += read.skipped
        left = np.sort(np.concatenate((lines.numbers[~found], *others)))
        return extracts, TextLines.of(left, lines.surroundings)


def _readable(lines: Lines, verdicts: Verdicts) -> Flags:
    """Refuse lines that are not UTF-8; skip empty ones; return which are left."""
    readable = lines.ends > lines.starts
    verdicts.skip(np.flatnonzero(~readable), LineSkip.BLANK_LINE)
    if lines.text.isascii() or _is_utf8(lines.text):
        return readable
    high = np.flatnonzero(lines.content >= 0x80)  # noqa: PLR2004 - no ASCII
    likely = np.unique(np.searchsorted(lines.starts, high, side="right") - 1)
    bad = np.array([number for number in likely.tolist() if readable[number] and not _is_utf8(lines.line(number))], np.int64)
    readable[bad] = False
    verdicts.refuse(bad, ErrorCode.BAD_TEXT, _NOT_UTF8)
    return readable


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_json(lines: Lines, readable: Flags) -> Flags:
    """Return which lines are meant to be JSON objects: they begin with a brace, and with a quote or nothing in it.

    They may be indented, but not without limit.
    """
    content = lines.content
    first = lines.starts.copy()
    indented = np.flatnonzero(readable & (content.take(first) <= ord(" ")))
    for _ in range(_DEEPEST_INDENT):
        indented = indented[np.isin(content.take(first[indented]), _BLANKS)]
        if not len(indented):
            break
        first[indented] += 1
    inside = content.take(first + 1)
    found: Flags = readable & (content.take(first) == _BRACE) & np.isin(inside, list(_INSIDE))
    return found
