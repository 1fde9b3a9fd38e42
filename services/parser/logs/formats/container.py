"""Lines that containers wrote, each as JSON of a collector. Pure.

``{"log": "...", "stream": "stderr", "time": ..., "kubernetes": {...}}``. The level is the first word of the (first) line that
names one in capitals, and the logger is the pod. Lines of a stack trace are joined, and so are the parts of a line that the
container runtime cut (``"_p": "P"``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.combinations import Combinations
from services.parser.dictionary_columns import Rows
from services.parser.logs.extract import Extract, Family, Verdicts, flags
from services.parser.logs.formats.application_rows import with_severity, without_blank
from services.parser.logs.formats.json_format import JsonFormat, fields, first_time, source_columns, unread_columns, with_time
from services.parser.logs.joining import join
from services.parser.logs.levels import named_levels
from services.parser.logs.lines import Flags
from services.parser.logs.members import MemberColumns
from services.parser.logs.options import Surroundings
from services.parser.logs.readings import KUBERNETES, Fields
from services.parser.logs.shapes import JsonShape
from services.parser.logs.times import any_times

NAME: Final = "container"

_FIELDS: Final = fields({"line": (("log",),), "read": (("time",),), "part": (("_p",),)})
_SIGNS: Final = (("stream",), ("@timestamp",), ("time",))
_SOURCE: Final = ("stream", "pod", "container")


def _recognize(shape: JsonShape) -> Fields | None:
    is_line = ("log",) in shape.leaves
    return _FIELDS if is_line and ((KUBERNETES,) in shape.objects or any(sign in shape.leaves for sign in _SIGNS)) else None


def _extract(members: MemberColumns, verdicts: Verdicts) -> Iterator[Extract]:
    members.take(("collected", "stream", "line", "part"))
    columns = source_columns(members)
    columns["time"] = first_time(
        lambda _: columns.get("observed_time"), lambda needed: members.converted("read", any_times, needed=needed)
    )
    columns["body"] = pc.utf8_rtrim(pc.fill_null(members.text("line"), ""), "\r\n")
    columns["part"] = members.words("part")
    columns |= unread_columns(members)
    yield without_blank(with_time(Extract(Family.APPLICATION, NAME, members.numbers, columns), verdicts), verdicts)


def joined(lines: Extract, surroundings: Surroundings) -> Extract:
    """Return the records of lines, with their levels; a column ``part`` says which lines were cut."""
    columns = dict(lines.columns)
    cut = flags(pc.equal(columns.pop("part").cast(pa.string()), "P")) if "part" in columns else None
    found = join(columns["body"], _sources(lines, surroundings), surroundings.options.joining, cut)
    first = found.first
    levels = named_levels(_first_lines(columns["body"].take(pa.array(first)), found.texts, cut, first))
    if len(first) < len(lines.lines):
        columns = {name: column.take(pa.array(first)) for name, column in columns.items()}
    columns |= {"body": found.texts, "severity_text": levels}
    if "pod" in columns:
        columns["logger"] = columns["pod"]
    return Extract(Family.APPLICATION, lines.format, lines.lines[first], with_severity(columns))


def _first_lines(lines: pa.StringArray, texts: pa.StringArray, cut: Flags | None, first: Rows) -> pa.StringArray:
    """Return the first line of each record, with all parts of those that were cut."""
    if cut is None or not cut[first].any():
        return lines
    return pc.if_else(pa.array(cut[first]), pc.replace_substring_regex(texts, r"(?s)\n.*", ""), lines)


def _sources(lines: Extract, surroundings: Surroundings) -> Rows:
    """Return a number for each line, equal for lines of the same container in the same segment."""
    columns = [surroundings.lines.segment[lines.lines]]
    for name in _SOURCE:
        if name in lines.columns:
            column = lines.columns[name]
            columns.append(pc.fill_null(column.indices, len(column.dictionary)).to_numpy().astype(np.int64))
    return Combinations.of(columns).of_row


CONTAINER: Final = JsonFormat(_recognize, _extract, joined)
