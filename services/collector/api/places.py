"""Where in Kafka the newest record about each request is, in 30 bytes for each instead of an object. Pure.

A record of `Collection.State` is newer than one of `Collection.Requests`, whichever was read first: state is written once a
request was taken in. Of what a topic no longer has, the places are forgotten, partition by partition.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from libs.common.kafka.records import Inbound
from libs.common.packed import PackedTable

REQUEST: Final = 0
STATE: Final = 1

_ROW: Final = np.dtype([("kind", "<u1"), ("partition", "<u4"), ("offset", "<u8")])
_FORM: Final = struct.Struct("<BIQ")


class RequestPlace(NamedTuple):
    """A record about a request: in the topic of requests, or in that of their state."""

    kind: int
    partition: int
    offset: int


class RequestPlaces:
    """The places, by id."""

    def __init__(self) -> None:
        self._table = PackedTable(_ROW)

    def __len__(self) -> int:
        return len(self._table)

    def get(self, key: bytes) -> RequestPlace | None:
        """Return the place of the newest record about a request."""
        row = self._table.get(key)
        return None if row is None else RequestPlace(*_FORM.unpack(row))

    def note_request(self, record: Inbound) -> None:
        """Note a record of `Collection.Requests`; the first of an id counts."""
        if record.key and self._table.get(record.key) is None:
            self._put(record.key, REQUEST, record)

    def note_state(self, record: Inbound) -> None:
        """Note a record of `Collection.State`."""
        if record.key and record.value is not None:
            self._put(record.key, STATE, record)
        elif record.key:
            self._table.remove(record.key)

    def forget(self, key: bytes) -> None:
        """Forget a request whose record is gone."""
        self._table.remove(key)

    def forget_before(self, kind: int, first: Mapping[int, int]) -> None:
        """Forget the records of a topic before the first offset of each partition."""
        rows = self._table.rows()
        kept = np.ones(len(rows), np.bool_)
        for partition, offset in first.items():
            kept &= (rows["kind"] != kind) | (rows["partition"] != partition) | (rows["offset"] >= offset)
        self._table.keep(kept)

    def _put(self, key: bytes, kind: int, record: Inbound) -> None:
        self._table.put(key, _FORM.pack(kind, record.partition, record.offset))
