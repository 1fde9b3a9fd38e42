"""Plain text: a time in front, if there is one, a level that is named in capitals, and the whole line as the message. Pure.

Lines of the kubelet (``2026-05-01T12:00:01.123456789Z stdout F message``) are those of a container. A line without a time has
that of the line before it in its segment, otherwise the time at which it was observed.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.types.log_columns import TIME
from services.parser.logs.extract import Extract, Family, Verdicts, flags, valid
from services.parser.logs.formats.application_rows import without_blank
from services.parser.logs.formats.container import joined
from services.parser.logs.formats.text_format import TextLines
from services.parser.logs.times import iso_times

NAME: Final = "text"
CONTAINER: Final = "container"

_TIME: Final = r"^\[?(?P<time>\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)"
_KUBELET: Final = (
    r"^(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) (?P<stream>stdout|stderr) (?P<part>[FP])"
    r"(?: |$)"
)


def kubelet(lines: TextLines, verdicts: Verdicts) -> tuple[list[Extract], TextLines]:
    """Read lines as the kubelet writes them."""
    values = lines.values
    found = pc.extract_regex(values, _KUBELET)
    matches = flags(found.is_valid())
    if not matches.any():
        return [], lines
    mask = pa.array(matches)
    parts, texts = found.filter(mask), values.filter(mask)
    columns = {
        "time": iso_times(pc.struct_field(parts, "time")),
        "stream": pc.struct_field(parts, "stream").dictionary_encode(),
        "part": pc.struct_field(parts, "part").dictionary_encode(),
        "body": pc.replace_substring_regex(texts, r"^\S+ \S+ \S+ ?", ""),
    }
    extract = Extract(Family.APPLICATION, CONTAINER, lines.numbers[matches], columns)
    return [joined(without_blank(extract, verdicts), lines.surroundings)], lines.only(~matches)


def plain(lines: TextLines, verdicts: Verdicts) -> tuple[list[Extract], TextLines]:
    """Read all lines."""
    values = lines.values
    times = iso_times(pc.struct_field(pc.extract_regex(values, _TIME), "time"))
    extract = Extract(Family.APPLICATION, NAME, lines.numbers, {"time": times, "body": values})
    records = joined(without_blank(extract, verdicts), lines.surroundings)
    return [_timed(records, lines)], lines.only(np.zeros(len(lines), np.bool_))


def _timed(records: Extract, lines: TextLines) -> Extract:
    """Give records without a time one that is near."""
    times = records.columns["time"]
    if not times.null_count:
        return records
    segment = lines.surroundings.lines.segment[records.lines]
    known = np.where(valid(times), np.arange(len(times)), -1)
    before = np.maximum.accumulate(known)
    usable = (before >= 0) & (segment[before] == segment)
    observed = pa.array(lines.surroundings.observed[segment], pa.int64()).view(TIME)
    near = pc.if_else(pa.array(usable), times.take(pa.array(np.maximum(before, 0))), observed)
    return Extract(records.family, records.format, records.lines, {**records.columns, "time": near})
