"""What formats give: rows as columns, and what becomes of lines that are no rows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

import numpy as np
import pyarrow as pa

from libs.common.messages.dead_letters import ErrorCode
from services.parser.dictionary_columns import Rows
from services.parser.logs.lines import Flags


class LineSkip(StrEnum):
    """Why a line is no row without being bad. These lines are counted."""

    BLANK_LINE = "blank_line"
    BLANK_MESSAGE = "blank_message"  # a record without a message
    DIRECTIVE = "directive"  # of a W3C log, or a comment
    NO_REQUEST = "no_request"  # the request line is empty or "-": a connection without a request
    NOT_HTTP = "not_http"  # the request line ends with another protocol, or with none
    UNKNOWN_METHOD = "unknown_method"  # not one of the nine methods of HTTP


class Family(Enum):
    """The row types that rows may have."""

    APPLICATION = auto()
    REQUEST = auto()  # http, or proxy


@dataclass(frozen=True, slots=True)
class Extract:
    """Rows that one format read.

    Attributes:
        family: of their row types.
        format: name of the format.
        lines: number of the (first) line of each row.
        columns: by the names of the row type; the others are null, or follow from the lines.
    """

    family: Family
    format: str
    lines: Rows
    columns: Mapping[str, pa.Array]

    def only(self, chosen: Flags) -> Extract:
        """Return some of the rows."""
        if chosen.all():
            return self
        mask = pa.array(chosen)
        columns = {name: column.filter(mask) for name, column in self.columns.items()}
        return Extract(self.family, self.format, self.lines[chosen], columns)


def merged(extracts: Sequence[Extract]) -> Extract:
    """Return the rows of one format in the order of their lines."""
    if len(extracts) == 1:
        return extracts[0]
    tables = [pa.table(dict(one.columns)) for one in extracts]
    whole = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
    lines = np.concatenate([one.lines for one in extracts])
    order = np.argsort(lines, kind="stable")
    whole = whole.take(pa.array(order)).combine_chunks()
    columns = {name: whole.column(name).combine_chunks() for name in whole.column_names}
    return Extract(extracts[0].family, extracts[0].format, lines[order], columns)


@dataclass(slots=True)
class Verdicts:
    """What becomes of lines that are no rows.

    Attributes:
        refused: lines that become dead letters, and why.
        skipped: lines that are only counted, by the reason.
    """

    refused: list[tuple[Rows, ErrorCode, str]] = field(default_factory=list)
    skipped: list[tuple[Rows, LineSkip]] = field(default_factory=list)

    def refuse(self, lines: Rows, code: ErrorCode, reason: str) -> None:
        """Make dead letters of lines."""
        if len(lines):
            self.refused.append((lines, code, reason))

    def skip(self, lines: Rows, reason: LineSkip) -> None:
        """Count lines."""
        if len(lines):
            self.skipped.append((lines, reason))

    @property
    def counts(self) -> Counter[str]:
        """How many lines were skipped for each reason."""
        counts: Counter[str] = Counter()
        for lines, reason in self.skipped:
            counts[reason.value] += len(lines)
        return counts


def flags(values: pa.BooleanArray) -> Flags:
    """Return truth values as an array; null counts as false."""
    found: Flags = (values.fill_null(fill_value=False) if values.null_count else values).to_numpy(zero_copy_only=False)
    return found


def valid(column: pa.Array) -> Flags:
    """Return which values are not null."""
    return flags(column.is_valid()) if column.null_count else np.ones(len(column), np.bool_)
