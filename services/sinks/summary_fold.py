"""From flows to traffic per socket: fold the two directions of a conversation, add up by minute, find sessions. Pure.

A *socket* is (protocol, local address, remote address, service port, direction). Local is the side whose network interface
logged the flow: the destination of an inbound flow, else the source. The source of a flow is who opened it, so the service
port is the destination's port, whoever listens: ``inbound`` says that the service is local, ``outbound`` that it is remote.
Both ways of a conversation stand in one row: *in* came to the local side, *out* left it. The client's port is folded away.
When both ends log, each end has its own socket, so nothing counts double within one.

Sums are additive: any number of partial sums of one (minute, socket) may be added in any order. A counter that the log did
not state adds nothing; one that no network could reach in a minute counts as `MOST`, so that sums cannot overflow.

A *session* is what a socket did lately: it starts anew at an allowed TCP tuple with state begin, and for all other protocols
when nothing came for the timeout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

TCP: Final = 6
MINUTE_MS: Final = 60_000
MOST: Final = 2**45
SOCKET: Final = ("protocol", "local_ip", "remote_ip", "service_port", "direction")
TRAFFIC: Final = ("packets_in", "packets_out", "bytes_in", "bytes_out")
COUNTS: Final = ("flows", "begins", "denied", *TRAFFIC)
SESSION: Final = ("since", "last", "restarted", *TRAFFIC)
_USED: Final = (
    "time", "src_ip", "dst_ip", "dst_port", "protocol", "direction", "action", "state",
    "packets_sent", "bytes_sent", "packets_received", "bytes_received",
)  # fmt: skip

_Ints = np.ndarray[tuple[int], np.dtype[np.int64]]
_Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class Folded:
    """What a table of flows adds up to."""

    minutes: pa.Table  # minute (ms), SOCKET, COUNTS; one row a minute and socket
    sessions: pa.Table  # SOCKET, SESSION, flows and totals of all rows; one row a socket


def fold(flows: pa.Table, timeout_ms: int) -> Folded:
    """Add up `flows`, at least one, in order; `timeout_ms` ends a session without TCP."""
    rows = _Rows.of(flows.combine_chunks())
    return Folded(_minutes(rows), _sessions(rows, timeout_ms))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Columns of flows, seen from the local side, and the number of each row's socket."""

    sockets: pa.Table  # SOCKET, one row a number
    number: _Ints
    time: _Ints
    tcp: _Bools
    counts: pa.Table  # COUNTS by row

    @classmethod
    def of(cls, flows: pa.Table) -> _Rows:
        column = {name: _plain(flows.column(name)) for name in _USED}
        inbound = pc.fill_null(pc.equal(column["direction"], "inbound"), fill_value=False)

        def sided(local: str, remote: str) -> pa.Array:
            return pc.if_else(inbound, column[local], column[remote])

        def counted(local: str, remote: str) -> pa.Array:
            return pc.min_element_wise(sided(local, remote), MOST, skip_nulls=False)

        keys = pa.table(
            [
                column["protocol"],
                sided("dst_ip", "src_ip"),
                sided("src_ip", "dst_ip"),
                column["dst_port"],
                pc.fill_null(column["direction"], "unknown"),
            ],
            names=list(SOCKET),
        )
        tcp, denied = _true(pc.equal(column["protocol"], TCP)), _true(pc.equal(column["action"], "deny"))
        # A denied NSG tuple carries the state "begin", but nothing began.
        begins = _true(pc.equal(column["state"], "begin")) & tcp & ~denied
        counts = pa.table(
            [
                pa.array(np.ones(len(flows), np.int64)),
                pa.array(begins.astype(np.int64)),
                pa.array(denied.astype(np.int64)),
                counted("packets_sent", "packets_received"),
                counted("packets_received", "packets_sent"),
                counted("bytes_sent", "bytes_received"),
                counted("bytes_received", "bytes_sent"),
            ],
            names=list(COUNTS),
        )
        number, samples = _numbered(keys.columns)
        return cls(keys.take(samples), number, column["time"].cast(pa.int64()).to_numpy(), tcp, counts)


def _minutes(rows: _Rows) -> pa.Table:
    minute = rows.time - rows.time % MINUTE_MS
    summed = _summed(rows.counts, COUNTS, {"minute": minute, "socket": rows.number})
    return _with_sockets(summed, rows.sockets)


def _sessions(rows: _Rows, timeout_ms: int) -> pa.Table:
    """Add up what comes after each socket's last restart, and everything beside it."""
    order = np.argsort(rows.number, kind="stable")
    number, time, tcp = rows.number[order], rows.time[order], rows.tcp[order]
    begins = rows.counts.column("begins").to_numpy()[order] > 0
    same = np.concatenate(([False], number[1:] == number[:-1]))
    silent = ~tcp & same & (np.diff(time, prepend=time[0]) > timeout_ms)
    restarts = begins | silent
    firsts = np.flatnonzero(~same)
    at = np.arange(len(order))
    last_restart = np.maximum.reduceat(np.where(restarts, at, -1), firsts)
    kept = order[at >= last_restart[number]]
    current = _summed(rows.counts.take(kept), TRAFFIC, {"socket": rows.number[kept]}).sort_by("socket")
    everything = _summed(rows.counts, ("flows", *TRAFFIC), {"socket": rows.number}).sort_by("socket")
    since = pa.table({"socket": rows.number[kept], "time": rows.time[kept]}).group_by("socket").aggregate([("time", "min")])
    columns = {
        "socket": current.column("socket"),
        "since": since.sort_by("socket").column("time_min"),
        "last": pa.array(np.maximum.reduceat(time, firsts)),
        "restarted": pa.array((last_restart >= 0).astype(np.int64)),
        **{name: current.column(name) for name in TRAFFIC},
        "flows": everything.column("flows"),
        **{f"total_{name}": everything.column(name) for name in TRAFFIC},
    }
    return _with_sockets(pa.table(columns), rows.sockets)


def _summed(counts: pa.Table, names: Sequence[str], groups: dict[str, _Ints]) -> pa.Table:
    table = counts.select(list(names))
    for name, values in groups.items():
        table = table.append_column(name, pa.array(values))
    summed = table.group_by(list(groups), use_threads=False).aggregate([(name, "sum") for name in names])
    columns = [summed.column(name) for name in groups] + [pc.fill_null(summed.column(f"{name}_sum"), 0) for name in names]
    return pa.table(columns, names=[*groups, *names])


def _with_sockets(table: pa.Table, sockets: pa.Table) -> pa.Table:
    """Put the socket's columns in the place of its number."""
    keys = sockets.take(table.column("socket"))
    rest = [name for name in table.column_names if name not in {"minute", "socket"}]
    first = {"minute": table.column("minute")} if "minute" in table.column_names else {}
    return pa.table(first | {name: keys.column(name) for name in SOCKET} | {name: table.column(name) for name in rest})


def _numbered(columns: Sequence[pa.ChunkedArray]) -> tuple[_Ints, pa.Array]:
    """Number the distinct rows of some columns without nulls; return each row's number and one row of each number."""
    number = np.zeros(len(columns[0]), np.int64)
    distinct = 1
    for column in columns:
        words = column.combine_chunks().dictionary_encode()
        # Renumbered after each column, so that the product cannot overflow.
        dense = pa.array(number * len(words.dictionary) + words.indices.to_numpy()).dictionary_encode()
        number, distinct = dense.indices.to_numpy().astype(np.int64), len(dense.dictionary)
    samples = np.empty(distinct, np.int64)
    samples[number] = np.arange(len(number))
    return number, pa.array(samples)


def _plain(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array.dictionary.take(array.indices) if pa.types.is_dictionary(array.type) else array


def _true(mask: pa.Array) -> _Bools:
    values: _Bools = pc.fill_null(mask, fill_value=False).to_numpy(zero_copy_only=False)
    return values
