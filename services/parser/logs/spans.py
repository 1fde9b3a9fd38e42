"""Make spans of requests that can be followed: those with a correlation id, or the id of a trace. Pure.

Requests without either cost no more than the question whether there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.row_type import RowType
from libs.common.rows.types.log_columns import REST, SOURCE, TIME
from libs.common.rows.types.spans import REQUEST_OF_SPAN, SPANS
from services.parser.dictionary_columns import Rows, spread_words
from services.parser.extraction import TypedRows
from services.parser.logs.derived_ids import derived_span_ids, derived_trace_ids
from services.parser.logs.extract import flags
from services.parser.logs.rows import MadeRows
from services.parser.logs.texts import EMPTY, NO_TEXT
from services.parser.logs.trace_context import span_ids, trace_ids

_NANOSECONDS: Final = 1_000  # in a microsecond
_LONGEST: Final = (2**63 - 1) // _NANOSECONDS
_SERVER_FAULTS: Final = 500
_NAMING: Final = ["subscription", "environment", "correlation_id", *SPANS.position.names]  # what ids are derived from
_COPIED: Final = tuple(column.name for column in (*REQUEST_OF_SPAN, *SOURCE, *REST))


@dataclass(frozen=True, slots=True)
class _Followed:
    """Requests that can be followed, with the ids that their lines state, and the index of the segment of each."""

    row_type: RowType
    batch: pa.RecordBatch
    ids: dict[str, pa.StringArray]
    segment: Rows

    @property
    def line_offset(self) -> Rows:
        offsets: Rows = self.batch["line_offset"].to_numpy()
        return offsets


def spans_of(requests: Sequence[MadeRows], segments: int) -> list[TypedRows]:
    """Return the spans of requests in the order of their lines, as one table; none if there are none."""
    followed = [found for one in requests if (found := _followed(one)) is not None]
    if not followed:
        return []
    segment = np.concatenate([one.segment for one in followed])
    batches = [_spans(one) for one in followed]
    counts = np.bincount(segment, minlength=segments)
    if len(batches) == 1:
        return [TypedRows(SPANS, batches[0], counts)]
    order = np.lexsort((np.concatenate([one.line_offset for one in followed]), segment))
    table = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().take(pa.array(order))
    return [TypedRows(SPANS, table.combine_chunks().to_batches()[0], counts)]


def _followed(requests: MadeRows) -> _Followed | None:
    batch = requests.typed.batch
    if all(batch[name].null_count == batch.num_rows for name in ("correlation_id", "trace_id")):
        return None
    correlation = batch["correlation_id"]
    correlation = pc.if_else(pc.equal(correlation, EMPTY), NO_TEXT, correlation)
    ids = {"correlation_id": correlation, "trace_id": trace_ids(batch["trace_id"]), "span_id": span_ids(batch["span_id"])}
    parents = pa.nulls(batch.num_rows, pa.string()) if requests.parents is None else span_ids(requests.parents)
    ids["parent_span_id"] = parents
    chosen = flags(pc.or_(ids["correlation_id"].is_valid(), ids["trace_id"].is_valid()))
    segment = np.repeat(np.arange(len(requests.typed.segment_rows)), requests.typed.segment_rows)
    if not chosen.any():
        return None
    if not chosen.all():
        mask = pa.array(chosen)
        batch, ids = batch.filter(mask), {name: column.filter(mask) for name, column in ids.items()}
    return _Followed(requests.typed.row_type, batch, ids, segment[chosen])


def _spans(followed: _Followed) -> pa.RecordBatch:
    batch, rows = followed.batch, followed.batch.num_rows
    begin, end = _times(batch)
    columns = {
        **{name: batch[name] for name in _COPIED},
        **followed.ids,
        "time": begin,
        "end_time": end,
        "trace_id": _completed(followed.ids["trace_id"], batch, derived_trace_ids),
        "span_id": _completed(followed.ids["span_id"], batch, derived_span_ids),
        "name": batch["http_request_method"],
        "kind": _same("server", rows),
        "status": _statuses(batch["http_response_status_code"]),
        "row_type": _same(followed.row_type.name, rows),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in SPANS.names], schema=SPANS.schema)


def _completed(stated: pa.StringArray, batch: pa.RecordBatch, derived: Callable[[pa.RecordBatch], pa.StringArray]) -> pa.Array:
    """Return ids, derived where none is stated."""
    if not stated.null_count:
        return stated
    batch = batch.select(_NAMING)
    if stated.null_count == len(stated):
        return derived(batch)
    missing = stated.is_null()
    return pc.replace_with_mask(stated, missing, derived(batch.filter(missing)))


def _times(batch: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
    """Return when requests began, and when they ended, which is when servers write about them; null if that is not known."""
    time = batch["time"].cast(pa.int64()).to_numpy()
    microseconds = pc.fill_null(batch["response_time"], -1).to_numpy()
    is_known = (microseconds >= 0) & (microseconds <= _LONGEST)
    begin = time - np.where(is_known, microseconds, 0) * _NANOSECONDS
    is_known &= begin <= time  # otherwise the difference has wrapped
    return pa.array(np.where(is_known, begin, time)).view(TIME), pa.array(time, mask=~is_known).view(TIME)


def _statuses(codes: pa.Array) -> pa.DictionaryArray:
    """Return the status as the semantic conventions have it for servers: what a client did wrong is no error of theirs."""
    failed = flags(pc.greater_equal(codes, _SERVER_FAULTS)).astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(failed), pa.array(["unset", "error"]))


def _same(word: str, rows: int) -> pa.Array:
    return spread_words([word], np.zeros(rows, np.int64))
