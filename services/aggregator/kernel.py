"""Flows in, rollups out. Pure.

Groups are formed within a record, so what a record gives does not depend on what else is in the poll.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.combinations import Combinations
from libs.common.rows.types.rollups import DIMENSIONS, ROLLUPS
from services.aggregator.aggregation import MEASURED, REMOTE, Aggregation
from services.aggregator.flow_rows import Coded, FlowRows, Ints
from services.aggregator.peers import sketches
from services.aggregator.sums import Groups
from services.aggregator.throttle import kept_of

_MILLISECONDS: Final = 1_000
_TIME: Final = ROLLUPS.schema.field("time").type


@dataclass(frozen=True, slots=True, eq=False)
class RolledUp:
    """Rollups, and for each the number of its first flow in the poll, which ascends.

    Attributes:
        filtered: flows that do not meet the condition.
        throttled: rollups that were left out because their records gave too many.
    """

    rows: pa.RecordBatch
    first: Ints
    filtered: int = 0
    throttled: int = 0


def roll_up(aggregation: Aggregation, poll: FlowRows) -> RolledUp:
    """Sum up flows. Raises `ConfigError` if the condition takes too long."""
    flows = poll.where(aggregation.condition)
    if not len(flows):
        return RolledUp(pa.RecordBatch.from_pylist([], schema=ROLLUPS.schema), flows.rows, len(poll))
    times = flows.column("time").cast(pa.int64()).to_numpy()
    length = aggregation.window_seconds * _MILLISECONDS
    windows = pa.array(times // length).dictionary_encode()
    keys = [flows.records, windows.indices.to_numpy(), *(flows.coded(name).codes + 1 for name in aggregation.dimensions)]
    found = Combinations.of(keys)
    groups = Groups(found.of_row, len(found))
    first = groups.first_rows()
    columns = {
        "time": pc.multiply(windows.dictionary.take(windows.indices.take(pa.array(first))), length).cast(_TIME),
        "window_seconds": pa.array(np.full(groups.count, aggregation.window_seconds, np.int32)),
        "aggregation": _same(aggregation.name, groups.count),
        **_dimensions(aggregation, flows, first),
        **_measures(flows, groups, times),
        "peers": _peers(aggregation, flows, groups),
        "weight": pa.array(np.ones(groups.count)),
        **_position(aggregation, flows, first),
    }
    rows = pa.RecordBatch.from_arrays([columns[name] for name in ROLLUPS.names], schema=ROLLUPS.schema)
    result = RolledUp(rows, flows.rows[first], len(poll) - len(flows))
    return result if aggregation.most_rows is None else _throttled(result, flows.records[first], aggregation.most_rows)


def _throttled(found: RolledUp, records: Ints, most_rows: int) -> RolledUp:
    kept = kept_of(found.rows, records, most_rows)
    rows = found.rows.take(pa.array(kept.rows))
    at = rows.schema.get_field_index("weight")
    rows = rows.set_column(at, rows.schema.field(at), pa.array(kept.weights))
    return RolledUp(rows, found.first[kept.rows], found.filtered, found.rows.num_rows - rows.num_rows)


def _dimensions(aggregation: Aggregation, flows: FlowRows, first: Ints) -> dict[str, pa.Array]:
    return {
        column.name: _at(flows.coded(column.name), first, column.type)
        if column.name in aggregation.dimensions
        else pa.nulls(len(first), column.type)
        for column in DIMENSIONS
    }


def _at(column: Coded, rows: Ints, kind: pa.DataType) -> pa.Array:
    return column.words_at(rows) if pa.types.is_dictionary(kind) else column.at(rows)


def _measures(flows: FlowRows, groups: Groups, times: Ints) -> dict[str, pa.Array]:
    denied = flows.has_word("action", "deny") | flows.has_word("state", "deny")
    states = {"flows_begun": "begin", "flows_continuing": "continuing", "flows_ended": "end"}
    return {
        **{name: groups.total(flows.column(name)) for name in MEASURED},
        **{name: groups.number_of(flows.has_word("state", state) & ~denied) for name, state in states.items()},
        "flows_denied": groups.number_of(denied),
        "tuples": groups.number_of(np.ones(len(flows), np.bool_)),
        "first_time": pa.array(groups.smallest(times)).cast(_TIME),
        "last_time": pa.array(groups.largest(times)).cast(_TIME),
    }


def _peers(aggregation: Aggregation, flows: FlowRows, groups: Groups) -> pa.Array:
    if not aggregation.counts_peers:
        return pa.nulls(groups.count, pa.string())
    return sketches(flows.coded(REMOTE), groups.of_row, groups.count)


def _position(aggregation: Aggregation, flows: FlowRows, first: Ints) -> dict[str, pa.Array]:
    blobs, generations = flows.coded("blob"), flows.coded("generation")
    sources = pc.binary_join_element_wise(aggregation.name, blobs.values, "/")
    return {
        "source": Coded(blobs.codes, sources).words_at(first),
        "generation": generations.words_at(first),
        "record_offset": flows.column("record_offset").take(pa.array(first)),
        "tuple_index": flows.column("tuple_index").take(pa.array(first)),
    }


def _same(word: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([word]))
