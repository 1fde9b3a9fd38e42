"""How far each generation of a source has been written: records in a compacted topic, in the same transactions as the rows.

A record's key is the sink, the shard and the generation; its value is the highest offset and index written. All records of a
shard are in one partition. Whoever takes over a shard reads that partition to its end: from then on, nobody else can add to it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from libs.common.errors import Retry, ServerUnreachable
from libs.common.kafka.readers.compacted import CompactedTable, patience_for
from libs.common.kafka.records import Inbound, Outbound
from libs.common.packed import PackedTable
from libs.common.rows.identity import Identities
from libs.common.settings.kafka import KafkaSettings
from services.sinks.local_state.positions import fresh_rows

_POSITION: Final = struct.Struct("<qq")
_ROW: Final = np.dtype([("offset", "<i8"), ("index", "<i8")])
_NOWHERE: Final = (-1, -1)
_NO_HEADERS: Final = ()

_Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the positions of one shard are."""

    topic: str
    partition: int
    owner: str  # the sink and the shard

    def key(self, generation: str) -> bytes:
        """Return the key of a generation."""
        return f"{self.owner}/{generation}".encode()


class WrittenRows:
    """The positions of one shard, as known to its current holder."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._prefix = f"{place.owner}/".encode()
        self._known = PackedTable(_ROW)

    def load(self, kafka: KafkaSettings, between: Callable[[], None]) -> None:
        """Read the committed positions.

        Raises:
            Retry: if Kafka does not respond, or a transaction in the partition does not end.
        """
        table = CompactedTable(kafka, self._place.topic, self._apply)
        try:
            table.open([self._place.partition])
            table.catch_up(patience_for(kafka), between)
        except ServerUnreachable as error:
            raise Retry(str(error)) from error
        finally:
            table.close()

    def fresh(self, identities: Identities) -> _Ints:
        """Return the rows that have not been written before, each once."""
        reached = np.array([self._reached(name) for name in identities.generations.to_pylist()], np.int64)
        return np.flatnonzero(fresh_rows(identities.generation, identities.offset, identities.index, reached))

    def advanced(self, identities: Identities, rows: _Ints) -> Iterator[Outbound]:
        """Yield the records stating that `rows` are written; rows of a generation must ascend."""
        names = identities.generations
        of_row = identities.generation[rows]
        # The last row of each generation is the first one in reverse order.
        groups, at = np.unique(of_row[::-1], return_index=True)
        last = rows[len(rows) - 1 - at]
        for name, row in zip(names.take(pa.array(groups)).to_pylist(), last.tolist(), strict=True):
            position = _POSITION.pack(int(identities.offset[row]), int(identities.index[row]))
            yield Outbound(self._place.topic, position, self._place.key(name), _NO_HEADERS, self._place.partition)

    def remember(self, records: list[Outbound]) -> None:
        """Note that these records from `advanced` are committed."""
        for record in records:
            self._known.put(record.key or b"", bytes(record.value or b""))

    def _apply(self, record: Inbound) -> None:
        if record.key is None or not record.key.startswith(self._prefix):
            return
        if record.value is None:
            self._known.remove(record.key)
        elif len(record.value) == _POSITION.size:
            self._known.put(record.key, record.value)

    def _reached(self, generation: str) -> tuple[int, int]:
        found = self._known.get(self._place.key(generation))
        return _NOWHERE if found is None else _POSITION.unpack(found)
