"""What a reader must find: every written tuple with its position, as columns of the flow schema.

Made from the same numbers as the text, without any parser. The generation is left out, since storage determines it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from libs.common.rows.row_type import WORD
from libs.common.rows.types.flows import FLOW_SCHEMA
from libs.demo.arrays import Ints
from libs.demo.draw import ENCRYPTIONS
from libs.demo.inventory import Nic
from libs.demo.page import LogPage
from libs.demo.peers import Addresses
from libs.demo.record_text import VERSIONS, WrittenRecord
from libs.demo.rules import RULES, Acl
from libs.demo.spec import LogKind

TRUTH_SCHEMA: Final = pa.schema([field for field in FLOW_SCHEMA if field.name != "generation"])
_NS_PER_TICK: Final = 100
_CATEGORIES: Final = {
    LogKind.VNET: "FlowLogFlowEvent",
    LogKind.NSG2: "NetworkSecurityGroupFlowEvent",
    LogKind.NSG1: "NetworkSecurityGroupFlowEvent",
}
_INBOUND: Final = np.array([rule.inbound for rule in RULES])
_DENIED: Final = np.array([not rule.allowed for rule in RULES])
_ACL: Final = np.array([rule.acl for rule in RULES])
_STATES: Final = {LogKind.VNET: ("begin", "continuing", "end", "deny"), LogKind.NSG2: ("begin", "continuing", "end", "begin")}


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows ``[start, stop)`` of a batch shared with other ranges."""

    batch: pa.RecordBatch
    start: int
    stop: int

    def read(self) -> pa.RecordBatch:
        """Return only these rows, without copying them."""
        return self.batch.slice(self.start, len(self))

    def __len__(self) -> int:
        return self.stop - self.start


NO_ROWS: Final = RowRange(pa.RecordBatch.from_pylist([], TRUTH_SCHEMA), 0, 0)


def table_of(parts: Iterable[RowRange], schema: pa.Schema = TRUTH_SCHEMA) -> pa.Table:
    """Return many ranges as one table, batch by batch, in the order of each batch."""
    by_batch: dict[int, list[RowRange]] = {}
    for part in parts:
        by_batch.setdefault(id(part.batch), []).append(part)
    batches = []
    for of_batch in by_batch.values():  # each slice would carry the dictionaries along
        numbers = np.concatenate([np.arange(part.start, part.stop) for part in of_batch])
        batches.append(of_batch[0].batch.take(pa.array(np.sort(numbers))))
    return pa.Table.from_batches(batches, schema).unify_dictionaries().combine_chunks()


@dataclass(frozen=True, slots=True)
class PlacedRecords:
    """The positions of the records of a page: each record's offset in its blob, in document order."""

    records: Sequence[WrittenRecord]
    offsets: Sequence[int]
    blobs: Sequence[str]  # blob id by index of the interface in the sheet


def truth_of(page: LogPage, placed: PlacedRecords, addresses: Addresses) -> pa.RecordBatch:
    """Return the rows of `page` in document order, in `TRUTH_SCHEMA`."""
    columns = {
        **_words_by_nic(page, placed.blobs),
        **_by_tuple(page, addresses),
        **_by_record(placed),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in TRUTH_SCHEMA.names], schema=TRUTH_SCHEMA)


def _words_by_nic(page: LogPage, blobs: Sequence[str]) -> dict[str, pa.Array]:
    nics, nic_of_row = page.sheet.nics, pa.array(page.tuples.nic)

    def spread(value: Callable[[Nic], str | None]) -> pa.Array:
        return pa.array([value(nic) for nic in nics], WORD).take(nic_of_row)

    return {
        "mac": spread(lambda nic: nic.mac),
        "flow_log_id": spread(lambda nic: nic.site.flow_log_id),
        "resource_id": spread(lambda nic: nic.site.resource_id),
        "target_id": spread(lambda nic: nic.target_id),
        "system_id": spread(lambda nic: nic.site.system_id),
        "category": spread(lambda _: _CATEGORIES[page.sheet.kind]),
        "acl_id": _acls(page),
        "blob": pa.array(blobs, WORD).take(nic_of_row),
    }


def _acls(page: LogPage) -> pa.Array:
    """Return the access list of each rule; a security group's log does not name one, so there it is the group itself."""
    nics, nic = page.sheet.nics, page.tuples.nic
    if page.sheet.kind is not LogKind.VNET:
        return pa.array([one.site.resource_id for one in nics], WORD).take(pa.array(nic))
    every = pa.array([acl for one in nics for acl in one.site.acls], WORD)
    return every.take(pa.array(nic * len(Acl) + _ACL[page.tuples.rule]))


def _by_tuple(page: LogPage, addresses: Addresses) -> dict[str, pa.Array]:
    tuples, kind, size = page.tuples, page.sheet.kind, len(page.tuples)
    states, nothing = _STATES.get(kind), pa.nulls(size, WORD)
    return {
        "time": pa.array(page.time).cast(pa.timestamp("ms", tz="UTC")),
        "src_ip": addresses.normal.take(pa.array(tuples.source)),
        "dst_ip": addresses.normal.take(pa.array(tuples.destination)),
        "src_port": pa.array(tuples.source_port.astype(np.uint16)),
        "dst_port": pa.array(tuples.destination_port.astype(np.uint16)),
        "protocol": pa.array(tuples.protocol.astype(np.uint8)),
        "direction": _word(_INBOUND[tuples.rule], ("outbound", "inbound")),
        "action": _word(_DENIED[tuples.rule], ("allow", "deny")),
        "state": pa.array([*states], pa.string()).take(pa.array(tuples.state)).dictionary_encode() if states else nothing,
        "encryption": _word(tuples.encryption, ENCRYPTIONS) if kind is LogKind.VNET else nothing,
        "rule": _word(tuples.rule, [rule.name for rule in RULES]),
        "flow_log_version": pa.array(np.full(size, VERSIONS[kind], np.uint8)),
        **{name: pa.array(getattr(tuples, name), mask=tuples.uncounted) for name in _COUNTERS},
    }


_COUNTERS: Final = ("packets_sent", "bytes_sent", "packets_received", "bytes_received")


def _by_record(placed: PlacedRecords) -> dict[str, pa.Array]:
    counts = np.array([record.stop - record.start for record in placed.records])
    starts = np.array([record.start for record in placed.records])
    ticks = np.array([record.ticks for record in placed.records])

    def spread(values: Ints | Sequence[int]) -> Any:
        return np.repeat(np.asarray(values, np.int64), counts)

    return {
        "record_time": pa.array(spread(ticks * _NS_PER_TICK)).cast(pa.timestamp("ns", tz="UTC")),
        "record_offset": pa.array(spread(placed.offsets)),
        "tuple_index": pa.array((np.arange(counts.sum()) - spread(starts)).astype(np.int32)),
    }


def _word(numbers: np.ndarray[Any, Any], words: Sequence[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(numbers.astype(np.int32)), pa.array(words, pa.string()))
