r"""Ids of traces and spans that follow from what a line says and where it is. Pure.

The id of a trace is the UUID of version 5 (RFC 9562, section 5.5) whose name is a correlation id in its environment. The id of
a span begins with the UUID of the source of its line, and is then made different for each position in it, by Steele's mix of
numbers ("Fast splittable pseudorandom number generators", 2014), which never makes different numbers the same: a UUID for each
line would cost as much as all the rest of a span. So anyone can compute both::

    uuid5(NAMESPACE, "trace\ncp2\nP1\n4711-0815").hex
    mix(uuid5(NAMESPACE, "span\ncp2.P1/logs/kubernetes/a.gz\n5b1c0de9a3f47a26").int >> 64 ^ mix(line_offset ^ line_index << 48))
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import Any, Final
from uuid import UUID, uuid5

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.identity import RowPositions
from libs.common.rows.types.spans import SPANS

NAMESPACE: Final = UUID("5bf272ff-793c-57ff-b170-5ae3f67dd0d5")
"""``uuid5(NAMESPACE_URL, "urn:blobtide:traces")``"""

_UUID_BYTES: Final = 16
_HALF: Final = 64  # bits of a UUID
_INDEX_SHIFT: Final = np.uint64(48)  # no blob has 256 TB
_MIX: Final = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT: Final = np.uint64(31)

Numbers = npt.NDArray[np.uint64]


def derived_trace_ids(rows: pa.RecordBatch) -> pa.StringArray:
    """Return the id of the trace of each row, 32 hex digits, from its environment and its correlation id, which it has."""
    environment = (pc.fill_null(rows[name].cast(pa.string()), "") for name in ("subscription", "environment"))
    names = pc.binary_join_element_wise("trace", *environment, rows["correlation_id"], "\n").dictionary_encode()
    ids = _hex(_uuids(names.dictionary.cast(pa.binary()).to_pylist()))
    return ids if len(ids) == rows.num_rows else ids.take(names.indices)


def derived_span_ids(rows: pa.RecordBatch) -> pa.StringArray:
    """Return the id of the span of each row, 16 hex digits, from its position."""
    positions = RowPositions.of(pa.Table.from_batches([rows]), SPANS.position)
    halves = [uuid5(NAMESPACE, "\n".join(("span", *source))).int >> _HALF for source in positions.sources]
    place = positions.offset.astype(np.uint64) ^ (positions.index.astype(np.uint64) << _INDEX_SHIFT)
    ids = _mixed(np.array(halves, np.uint64)[positions.source] ^ _mixed(place))
    ids[ids == 0] = 1  # zeros would mean that there is none
    return _hex(ids.astype(">u8").view(np.uint8).reshape(-1, ids.itemsize))


def _uuids(names: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    """Return a UUID of version 5 for each name: as `uuid.uuid5`, without an object for each."""
    begun = sha1(NAMESPACE.bytes, usedforsecurity=False)
    digests = []
    for name in names:
        hashed = begun.copy()
        hashed.update(name)
        digests.append(hashed.digest())
    found = np.frombuffer(b"".join(digests), np.uint8).reshape(len(names), -1)[:, :_UUID_BYTES].copy()
    found[:, 6] = found[:, 6] & 0x0F | 0x50  # the version
    found[:, 8] = found[:, 8] & 0x3F | 0x80  # the variant
    return found


def _mixed(numbers: Numbers) -> Numbers:
    """Return a number for each, in no order; different numbers give different ones."""
    for shift, factor in _MIX:
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> _LAST_SHIFT)


def _hex(ids: npt.NDArray[np.uint8]) -> pa.StringArray:
    """Return ids, one a row, as hex digits."""
    rows, size = ids.shape
    ends: Any = np.arange(rows + 1, dtype=np.int32) * (2 * size)
    digits = ids.tobytes().hex().encode()
    return pa.Array.from_buffers(pa.string(), rows, [None, pa.py_buffer(ends), pa.py_buffer(digits)])
