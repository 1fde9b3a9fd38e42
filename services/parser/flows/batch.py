"""Combine the columns of tuples and the values of their records into one flow batch. Pure."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.types.flows import FLOW_SCHEMA
from services.parser.dictionary_columns import mapped, spread
from services.parser.flows.formats import nsg
from services.parser.flows.gathering import Gathered
from services.parser.flows.positions import Origin

_RECORD_TIME = FLOW_SCHEMA.field("record_time").type
_STRING = pa.string()


def flow_batch(columns: dict[str, pa.Array], origin: Origin, gathered: Gathered) -> pa.RecordBatch:
    """Return rows with the tuple columns `columns`."""
    by_name = columns | _array_columns(origin, gathered) | _record_columns(origin, gathered) | _identity(origin, gathered)
    return pa.RecordBatch.from_arrays([by_name[name] for name in FLOW_SCHEMA.names], schema=FLOW_SCHEMA)


def _array_columns(origin: Origin, gathered: Gathered) -> dict[str, pa.Array]:
    groups = gathered.groups
    return {
        "rule": spread(pa.array(groups.rules, _STRING), origin.array),
        "acl_id": spread(pa.array(groups.acls, _STRING), origin.array),
        "mac": spread(_macs(groups.macs), origin.array),
    }


def _macs(texts: list[str | None]) -> pa.Array:
    """Return MAC addresses as twelve hex digits, without the separators that some logs use."""
    encoded = pa.array(texts, _STRING).dictionary_encode()
    digits = pc.utf8_upper(pc.replace_substring(pc.replace_substring(encoded.dictionary, "-", ""), ":", ""))
    return encoded if digits.equals(encoded.dictionary) else mapped(encoded, digits.to_pylist())


def _record_columns(origin: Origin, gathered: Gathered) -> dict[str, pa.Array]:
    records = gathered.records
    is_nsg = [record.category == nsg.CATEGORY for record in records]
    texts = {
        "category": [record.category for record in records],
        "flow_log_id": [record.flowLogGUID for record in records],
        "resource_id": [
            record.resourceId if old else record.flowLogResourceID for record, old in zip(records, is_nsg, strict=True)
        ],
        "target_id": [record.targetResourceID for record in records],
        "system_id": [record.systemId for record in records],
    }
    versions = np.fromiter((record.version or 0 for record in records), np.uint8, len(records))
    return {name: spread(pa.array(values, _STRING), origin.record) for name, values in texts.items()} | {
        "flow_log_version": pa.array(versions[origin.record]),
        "record_time": record_times([record.time for record in records]).take(pa.array(origin.record)),
    }


def _identity(origin: Origin, gathered: Gathered) -> dict[str, pa.Array]:
    segment_of = np.array(gathered.segment_of)
    segments = segment_of[origin.record]
    return {
        "blob": spread(pa.array([segment.blob for segment in gathered.segments], _STRING), segments),
        "generation": spread(pa.array([segment.generation for segment in gathered.segments], _STRING), segments),
        "record_offset": pa.array(np.array(gathered.offsets, np.int64)[origin.record]),
        "tuple_index": pa.array(origin.tuple_index.astype(np.int32)),
    }


def record_times(texts: list[str | None]) -> pa.Array:
    """Parse the times of records; anything other than an RFC 3339 time between 1678 and 2262 becomes null."""
    values = pa.array(texts, _STRING)
    try:
        return values.cast(_RECORD_TIME)
    except pa.ArrowInvalid:
        return pa.concat_arrays([_time(values.slice(i, 1)) for i in range(len(values))])


def _time(value: pa.Array) -> pa.Array:
    try:
        return value.cast(_RECORD_TIME)
    except pa.ArrowInvalid:
        return pa.nulls(1, _RECORD_TIME)
