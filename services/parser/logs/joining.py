"""Join lines that are one record: stack traces that were written line by line, and lines that a container runtime cut. Pure.

Lines are joined with others of the same source in the same segment, never beyond: what a segment gives depends on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.parser.dictionary_columns import Rows
from services.parser.logs.extract import flags
from services.parser.logs.lines import Flags
from services.parser.logs.texts import Texts

CONTINUES: Final = r"^(?:\s|Caused by: |Suppressed: |\.\.\. \d+ (?:more|common frames omitted))"
"""How lines begin that continue the one before: indented, or with words of Java's stack traces."""
_BLANK: Final = ord(" ")
_FIRST: Final = list(b"CS.")  # first letters of these words


@dataclass(frozen=True, slots=True)
class Joining:
    """Which lines are joined.

    Attributes:
        start: a regular expression (RE2) for the beginning of the first line of a record; None for what does not begin as
            `CONTINUES` says.
        lines, bytes: maximum size of a record; what would exceed it begins another one.
    """

    start: str | None = None
    lines: int = 500
    bytes: int = 262_144


@dataclass(frozen=True, slots=True)
class Joined:
    """Records of one or more lines.

    Attributes:
        first: index of the first line of each record, ascending.
        texts: the lines of each record, with line feeds between them.
    """

    first: Rows
    texts: pa.StringArray


def join(texts: pa.StringArray, source: Rows, joining: Joining, cut: Flags | None = None) -> Joined:
    """Join lines without nulls, in order.

    `source` has a number for each line; only lines of equal numbers are joined. `cut` tells which lines were cut off by the
    container's runtime: the next line of the same source belongs to them, without a line feed.
    """
    continues = _continues(texts, joining)
    if not continues.any() and (cut is None or not cut.any()):
        return Joined(np.arange(len(texts)), texts)
    order = np.argsort(source, kind="stable")
    same_source = np.concatenate(([False], np.diff(source[order]) == 0))
    after_cut = np.zeros(len(texts), np.bool_) if cut is None else np.concatenate(([False], cut[order][:-1])) & same_source
    begins = ~(same_source & (continues[order] | after_cut))
    sizes = pc.binary_length(texts).to_numpy()[order].astype(np.int64) + 1
    begins = _bounded(begins, sizes, joining)
    starts = np.flatnonzero(begins)
    sorted_texts = texts.take(pa.array(order))
    if (after_cut & ~begins).any():
        breaks = pa.array(["\n", ""]).take(pa.array((begins | after_cut).astype(np.int8)))
        sorted_texts = pc.binary_join_element_wise(breaks, sorted_texts, "")
        joined = _joined(sorted_texts, starts, "")
    else:
        joined = _joined(sorted_texts, starts, "\n")
    first = order[starts]
    in_order = np.argsort(first)
    return Joined(first[in_order], joined.take(pa.array(in_order)))


def _continues(texts: pa.StringArray, joining: Joining) -> Flags:
    if joining.start is not None:
        return ~flags(pc.match_substring_regex(texts, joining.start))
    first = Texts.of(texts).first()
    likely = (first <= _BLANK) | np.isin(first, _FIRST)
    if likely.any():
        likely[likely] = flags(pc.match_substring_regex(texts.filter(pa.array(likely)), CONTINUES))
    return likely


def _bounded(begins: Flags, sizes: Rows, joining: Joining) -> Flags:
    """Return where records begin if none may be larger than allowed."""
    starts = np.flatnonzero(begins)
    record = np.cumsum(begins) - 1
    place = np.arange(len(begins)) - starts[record]
    before = np.cumsum(sizes) - sizes
    size = before - before[starts][record] + sizes
    part = np.maximum(place // joining.lines, (size - 1) // joining.bytes)
    bounded: Flags = begins | np.concatenate(([True], np.diff(part) != 0))
    return bounded


def _joined(texts: pa.StringArray, starts: Rows, separator: str) -> pa.StringArray:
    offsets = pa.array(np.append(starts, len(texts)).astype(np.int32))
    return pc.binary_join(pa.ListArray.from_arrays(offsets, texts), separator)
