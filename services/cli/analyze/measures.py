"""What is counted of rows of logs, as columns: level, status, duration and what an error says. Pure.

Durations are counted in buckets whose limits grow by four percent, so that a percentile is exact to two percent, however many
requests there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.row_type import RowType
from libs.common.rows.types.application import APPLICATION

LEVELS: Final = ("trace", "debug", "info", "warn", "error", "fatal")
ERROR_NUMBER: Final = 17  # severity
ERROR_STATUS: Final = 500
NO_LEVEL: Final = "none"

_LEVEL_WIDTH: Final = 4  # OpenTelemetry has four numbers a level
_GROWTH: Final = math.log(1.04)
_LONG: Final = ("body", "url_path")
_COUNTED: Final = (
    "time", "service", "severity_number", "exception_type", *_LONG,
    "http_request_method", "http_response_status_code", "response_time",
)  # fmt: skip
_SHOWN: Final = 160  # characters of a message
# What differs between messages that say the same: numbers, and ids in hexadecimal digits.
_VARYING: Final = r"\b(?:0x)?[0-9a-fA-F]*[0-9][0-9a-fA-F]*\b|[0-9]+"
_NS_PER_SECOND: Final = 1_000_000_000


def slim(table: pa.Table) -> pa.Table:
    """Return only what is counted: some columns, and the beginning of long texts."""
    columns = {name: table[name] for name in _COUNTED if name in table.column_names}
    return pa.table(columns | {name: pc.utf8_slice_codeunits(columns[name], 0, _SHOWN) for name in _LONG if name in columns})


def plain(table: pa.Table, name: str) -> pa.Array:
    """Return a column without a dictionary: those of two batches differ."""
    column = table[name].combine_chunks()
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def seconds_of(table: pa.Table) -> pa.ChunkedArray:
    """Return the seconds since 1970 of the rows' times."""
    return pc.divide(table["time"].cast(pa.int64()), _NS_PER_SECOND)


def levels_of(row_type: RowType, table: pa.Table) -> pa.ChunkedArray | pa.Array:
    """Return the index of each row's level in `LEVELS`; null if it has none, as requests have."""
    if row_type is not APPLICATION:
        return pa.nulls(table.num_rows, pa.int64())
    number = table["severity_number"].cast(pa.int64())
    return pc.if_else(pc.greater(number, 0), pc.divide(pc.subtract(number, 1), _LEVEL_WIDTH), None)


def errors_of(row_type: RowType, table: pa.Table) -> pa.Table:
    """Return `service` and `what` of the rows that are errors; numbers and ids in texts as ``#``."""
    if row_type is APPLICATION:
        wrong = table.filter(pc.greater_equal(table["severity_number"], ERROR_NUMBER))
        parts = [plain(wrong, "exception_type"), _uniform(plain(wrong, "body"))]
    else:
        wrong = table.filter(pc.greater_equal(table["http_response_status_code"], ERROR_STATUS))
        status = plain(wrong, "http_response_status_code")
        parts = [status.cast(pa.string()), plain(wrong, "http_request_method"), _uniform(plain(wrong, "url_path"))]
    # Not "skip", which also leaves out rows of which all parts are null.
    what = pc.utf8_trim_whitespace(pc.binary_join_element_wise(*parts, " ", null_handling="replace"))
    return pa.table({"service": plain(wrong, "service"), "what": what})


def statuses_of(table: pa.Table) -> pa.Table:
    """Return `service` and `status` of requests, without those whose status is not known."""
    known = table.filter(pc.is_valid(table["http_response_status_code"]))
    return pa.table({"service": plain(known, "service"), "status": known["http_response_status_code"].cast(pa.int64())})


def durations_of(table: pa.Table) -> pa.Table:
    """Return `service` and `bucket` of requests, without those whose duration is not known."""
    known = table.filter(pc.greater_equal(table["response_time"], 0))
    microseconds = pc.max_element_wise(known["response_time"], 1).cast(pa.float64())
    bucket = pc.ceil(pc.divide(pc.ln(microseconds), _GROWTH)).cast(pa.int64())
    return pa.table({"service": plain(known, "service"), "bucket": bucket})


def percentile(buckets: Sequence[tuple[int, int]], share: float) -> float:
    """Return the microseconds that `share` of the requests do not exceed; `buckets` are numbers and counts, ascending."""
    wanted = share * sum(count for _, count in buckets)
    reached = 0
    for number, count in buckets:
        reached += count
        if reached >= wanted:
            return _middle(number)
    return math.nan


def _middle(bucket: int) -> float:
    return 1.0 if bucket == 0 else math.exp((bucket - 0.5) * _GROWTH)


def _uniform(text: pa.Array) -> pa.Array:
    first_line = pc.replace_substring_regex(pc.utf8_slice_codeunits(text, 0, _SHOWN), r"(?s)\n.*", "")
    return pc.replace_substring_regex(first_line, _VARYING, "#")
