"""Make record batches of what formats gave. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.messages.segments import Segment
from libs.common.rows.row_type import WORD, RowType
from libs.common.rows.types.application import APPLICATION
from libs.common.rows.types.http import HTTP
from libs.common.rows.types.log_columns import TIME
from libs.common.rows.types.proxy import PROXY
from services.parser.dictionary_columns import Rows, spread_words
from services.parser.extraction import TypedRows
from services.parser.logs.extract import Extract, Family, valid
from services.parser.logs.formats.container import NAME as CONTAINER
from services.parser.logs.labels import label_columns
from services.parser.logs.options import Surroundings
from services.parser.logs.texts import NO_TEXT
from services.parser.logs.trace_context import PARENT

CACHE_STATUS: Final = "cache_status"
"""The column that only rows of proxies have."""
_RESOURCE: Final = "resource_attributes"
_OF_PROXIES: Final = ("server_address", CACHE_STATUS)


@dataclass(frozen=True, slots=True)
class MadeRows:
    """Rows of one type, and for requests what their lines say about the span that theirs is a part of, if any does."""

    typed: TypedRows
    parents: pa.StringArray | None


def row_types_of(extract: Extract, *, is_proxy_stream: bool) -> Iterator[tuple[RowType, Extract]]:
    """Divide rows by their types: requests of proxies name their server or the state of the cache."""
    if extract.family is Family.APPLICATION:
        yield APPLICATION, extract
        return
    of_proxies = np.zeros(len(extract.lines), np.bool_)
    for name in _OF_PROXIES if is_proxy_stream else ():
        if name in extract.columns:
            of_proxies |= valid(extract.columns[name])
    if not of_proxies.all():
        yield HTTP, extract.only(~of_proxies)
    if of_proxies.any():
        yield PROXY, extract.only(of_proxies)


def batch_of(
    row_type: RowType, extracts: Sequence[Extract], segments: Sequence[Segment], surroundings: Surroundings
) -> MadeRows:
    """Return rows in the order of their lines."""
    columns, lines = _joined(row_type, extracts)
    segment = surroundings.lines.segment[lines]
    columns |= _identity(lines, segment, segments, surroundings)
    columns["observed_time"] = _observed(columns.get("observed_time"), segment, surroundings)
    for name, values in label_columns(segments).items():
        columns[name] = _labelled(name, columns.get(name), values, segment)
    if row_type is APPLICATION:
        columns["logger"] = _loggers(columns, len(lines))
    arrays = [_cast(columns.get(field.name), field.type, len(lines)) for field in row_type.schema]
    batch = pa.RecordBatch.from_arrays(arrays, schema=row_type.schema)
    return MadeRows(TypedRows(row_type, batch, np.bincount(segment, minlength=len(segments))), columns.get(PARENT))


def _joined(row_type: RowType, extracts: Sequence[Extract]) -> tuple[dict[str, pa.Array], Rows]:
    """Return all rows, in the order of their lines."""
    if len(extracts) == 1 and (np.diff(extracts[0].lines) > 0).all():
        return _stated(extracts[0]), extracts[0].lines
    lines = np.concatenate([one.lines for one in extracts])
    order = np.argsort(lines, kind="stable")
    table = pa.concat_tables([_table(row_type, one) for one in extracts]).unify_dictionaries().combine_chunks()
    table = table.take(pa.array(order))
    return {name: table.column(name).combine_chunks() for name in table.column_names}, lines[order]


def _stated(extract: Extract) -> dict[str, pa.Array]:
    """Return what the lines of a format state."""
    formats = spread_words([extract.format], np.zeros(len(extract.lines), np.int64))
    return {**extract.columns, "format": formats}


def _table(row_type: RowType, extract: Extract) -> pa.Table:
    found = _stated(extract)
    stated = {field.name: field.type for field in row_type.schema if field.name not in row_type.position.names}
    stated[PARENT] = pa.string()
    return pa.table({name: _cast(found.get(name), kind, len(extract.lines)) for name, kind in stated.items()})


def _cast(column: pa.Array | None, kind: pa.DataType, rows: int) -> pa.Array:
    if column is None:
        return pa.nulls(rows, kind)
    if column.type == kind:
        return column
    if kind == WORD:
        return column.dictionary_encode()
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column.cast(kind)


def _identity(lines: Rows, segment: Rows, segments: Sequence[Segment], surroundings: Surroundings) -> dict[str, pa.Array]:
    pieces = np.array([one.piece.number if one.piece else 0 for one in segments], np.int32)
    return {
        "blob": spread_words([one.blob for one in segments], segment),
        "generation": spread_words([one.generation for one in segments], segment),
        "line_offset": pa.array(surroundings.lines.offset[lines]),
        "line_index": pa.array(pieces[segment]),
    }


def _observed(stated: pa.Array | None, segment: Rows, surroundings: Surroundings) -> pa.Array:
    if stated is not None and not stated.null_count:
        return stated
    observed = pa.array(surroundings.observed[segment], pa.int64()).view(TIME)
    return observed if stated is None else pc.coalesce(stated, observed)


def _labelled(name: str, stated: pa.Array | None, labels: list[str | None], segment: Rows) -> pa.Array:
    """Return what lines state, and where they do not what the labels of their segments say."""
    if stated is None or stated.null_count == len(stated):
        return spread_words(labels, segment)
    if not any(labels) or (name != _RESOURCE and not stated.null_count):
        return stated
    own, other = stated.cast(pa.string()), pa.array(labels, pa.string()).take(pa.array(segment))
    if name == _RESOURCE:
        both = pc.binary_join_element_wise(pc.utf8_slice_codeunits(own, 0, -1), pc.utf8_slice_codeunits(other, 1), ",")
        return pc.coalesce(both, own, other).dictionary_encode()
    return pc.coalesce(own, other).dictionary_encode()


def _loggers(columns: dict[str, pa.Array], rows: int) -> pa.Array:
    """Return loggers; for lines of containers, that is the pod, which perhaps only the labels say."""
    logger, pod, form = _cast(columns.get("logger"), WORD, rows), columns["pod"], columns["format"]
    if not logger.null_count or pod.null_count == rows or CONTAINER not in form.dictionary.to_pylist():
        return logger
    pods = pc.if_else(pc.equal(form.cast(pa.string()), CONTAINER), pod.cast(pa.string()), NO_TEXT)
    return pc.coalesce(logger.cast(pa.string()), pods).dictionary_encode()
