"""Turn flows into traffic per socket: fold the two directions of a conversation, add up by minute, find sessions. Pure.

A *socket* is (protocol, local address, remote address, service port, direction). Local is the side whose network interface
logged the flow: the destination of an inbound flow, otherwise the source. The source of a flow is the side that opened it, so
the service port is the destination's port, whichever side that is: ``inbound`` means that the service is local, ``outbound``
that it is remote. A row has both directions of a conversation: *in* arrived at the local side, *out* left it. The client's port
is dropped. If both ends log, each end has its own socket, so nothing is counted twice within a socket.

Sums are additive: any number of partial sums of one (minute, socket) may be added in any order. A counter missing from the log
adds nothing; one that no network could reach in a minute counts as `MOST`, so that sums cannot overflow.

A *session* is a socket's recent activity: it restarts at an allowed TCP tuple with state begin and, for all other protocols,
when nothing has arrived for the timeout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.combinations import Combinations

TCP: Final = 6
MINUTE_MS: Final = 60_000
MOST: Final = 2**45
SOCKET: Final = ("protocol", "local_ip", "remote_ip", "service_port", "direction")
TRAFFIC: Final = ("packets_in", "packets_out", "bytes_in", "bytes_out")
COUNTS: Final = ("flows", "begins", "denied", *TRAFFIC)
SESSION: Final = ("since", "last", "restarted", *TRAFFIC)
TOTALS: Final = ("flows", *(f"total_{name}" for name in TRAFFIC))
_LARGEST: Final = 9 * 10**18  # of a sum

_SOCKET_FIELDS: Final = (
    pa.field("protocol", pa.uint8()),
    pa.field("local_ip", pa.string()),
    pa.field("remote_ip", pa.string()),
    pa.field("service_port", pa.uint16()),
    pa.field("direction", pa.string()),
)
SUMS: Final = pa.schema([*_SOCKET_FIELDS, *(pa.field(name, pa.int64()) for name in COUNTS)])
"""The sums of one minute, by socket."""
SESSIONS: Final = pa.schema([*_SOCKET_FIELDS, *(pa.field(name, pa.int64()) for name in (*SESSION, *TOTALS))])
"""A socket's recent and total activity."""

_Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
_Bools: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class Folded:
    """The sums of a table of flows."""

    minutes: tuple[tuple[int, pa.Table], ...]  # minute (ms, ascending) and its `SUMS`, one row per socket
    sessions: pa.Table  # `SESSIONS`, one row per socket


def fold(flows: pa.Table, timeout_ms: int) -> Folded:
    """Add up `flows` (at least one) in order; `timeout_ms` ends sessions of protocols other than TCP."""
    rows = _FlowRows.of(flows)
    groups = _Groups.of(rows.sockets.number)
    return Folded(tuple(_minutes(rows, groups)), _sessions(rows, groups, timeout_ms))


def merge_sums(sums: pa.Table) -> pa.Table:
    """Add up partial sums of one minute (`SUMS`, at least one) to one row per socket."""
    sockets = _Sockets.of_table(sums)
    groups = _Groups.of(sockets.number)
    return _table(SUMS, sockets.of(groups.group), {name: groups.sum(_integers(sums, name)) for name in COUNTS})


def merge_sessions(sessions: pa.Table, timeout_ms: int) -> pa.Table:
    """Merge partial `SESSIONS` (at least one), given in chronological order, to one row per socket."""
    sockets = _Sockets.of_table(sessions)
    groups = _Groups.of(sockets.number)
    column = {name: _integers(sessions, name)[groups.order] for name in (*SESSION, *TOTALS)}
    tcp = _integers(sessions, "protocol")[groups.order] == TCP
    silence = column["since"] - groups.highest_before(column["last"])
    anew = ~groups.is_first & ((column["restarted"] > 0) | (~tcp & (silence > timeout_ms)))
    begin = groups.last_of(anew | groups.is_first)
    kept = groups.from_rows(begin)
    values = {
        "since": column["since"][begin],
        "last": np.maximum.reduceat(column["last"], groups.starts),
        "restarted": column["restarted"][groups.ends - 1],
        **{name: groups.sum_sorted(np.where(kept, column[name], 0)) for name in TRAFFIC},
        **{name: groups.sum_sorted(column[name]) for name in TOTALS},
    }
    return _table(SESSIONS, sockets.of(groups.group), values)


@dataclass(frozen=True, slots=True)
class _Sockets:
    """The number of each row's socket, and the columns of the sockets by number."""

    number: _Ints
    columns: list[pa.Array]  # as in SOCKET

    @classmethod
    def of_table(cls, table: pa.Table) -> _Sockets:
        """Number the sockets of partial sums."""
        ends = table.column("local_ip"), table.column("remote_ip")
        nowhere = np.zeros(len(table), np.bool_)
        return cls.seen(
            ends, nowhere, (_integers(table, "protocol"), _integers(table, "service_port")), table.column("direction")
        )

    @classmethod
    def seen(
        cls,
        ends: tuple[pa.ChunkedArray, pa.ChunkedArray],
        swapped: _Bools,
        service: tuple[_Ints, _Ints],
        direction: pa.ChunkedArray,
    ) -> _Sockets:
        """Number sockets by ends (local and remote, reversed where `swapped`), protocol and port, and direction."""
        rows = len(swapped)
        addresses = pa.concat_arrays([chunk for end in ends for chunk in end.chunks]).dictionary_encode()
        codes = addresses.indices.to_numpy().astype(np.int64)
        local = np.where(swapped, codes[rows:], codes[:rows])
        remote = np.where(swapped, codes[:rows], codes[rows:])
        words, word = _words(direction)
        protocol, port = service
        sockets = Combinations.of((local, remote, port, protocol, word))
        sample = sockets.row
        columns = [
            pa.array(protocol[sample].astype(np.uint8)),
            addresses.dictionary.take(pa.array(local[sample])),
            addresses.dictionary.take(pa.array(remote[sample])),
            pa.array(port[sample].astype(np.uint16)),
            words.take(pa.array(word[sample])),
        ]
        return cls(sockets.of_row, columns)

    def of(self, numbers: _Ints) -> list[pa.Array]:
        """Return the columns of the sockets with these numbers."""
        chosen = pa.array(numbers)
        return [column.take(chosen) for column in self.columns]


@dataclass(frozen=True, slots=True)
class _Groups:
    """Rows in the order of their groups, and in their original order within each group."""

    order: _Ints
    starts: _Ints  # where each group begins in `order`
    group: _Ints  # the number of each group, ascending

    @classmethod
    def of(cls, number: _Ints) -> _Groups:
        """Sort rows by a small number."""
        bits = len(number).bit_length()
        keyed = np.sort((number << bits) | np.arange(len(number)))  # several times faster than a stable sort
        order, sorted_number = keyed & ((1 << bits) - 1), keyed >> bits
        starts = np.flatnonzero(np.diff(sorted_number, prepend=-1))
        return cls(order, starts, sorted_number[starts])

    @property
    def ends(self) -> _Ints:
        """Where groups end."""
        return np.append(self.starts[1:], len(self.order))

    @property
    def is_first(self) -> _Bools:
        """Return which rows begin a group."""
        first = np.zeros(len(self.order), np.bool_)
        first[self.starts] = True
        return first

    def sum(self, values: _Ints) -> _Ints:
        """Add up values that are in the order of the rows."""
        return self.sum_sorted(values[self.order])

    def sum_sorted(self, values: _Ints) -> _Ints:
        """Add up values that are in the order of the groups, up to the limit for sums."""
        total: _Ints = np.add.reduceat(values, self.starts)
        if values.max() > _LARGEST // len(values):
            roughly = np.add.reduceat(values.astype(np.float64), self.starts)
            total = np.where(roughly >= _LARGEST, _LARGEST, total)
        return total

    def last_of(self, mask: _Bools) -> _Ints:
        """Return the place of each group's last row for which `mask` (in group order) is true; -1 if there is none."""
        last: _Ints = np.maximum.reduceat(np.where(mask, np.arange(len(mask)), -1), self.starts)
        return last

    def from_rows(self, places: _Ints) -> _Bools:
        """Return which rows are at or after the place of their group."""
        behind: _Bools = np.arange(len(self.order)) >= np.repeat(places, self.ends - self.starts)
        return behind

    def highest_before(self, values: _Ints) -> _Ints:
        """Return the highest value (in group order) before each row in its group; for a first row, its own."""
        by_value = np.argsort(values, kind="stable")
        rank = np.empty(len(values), np.int64)
        rank[by_value] = np.arange(len(values))
        group = np.repeat(np.arange(len(self.starts)), self.ends - self.starts) * len(values)
        highest = values[by_value[np.maximum.accumulate(group + rank) - group]]
        return np.where(self.is_first, values, np.concatenate((values[:1], highest[:-1])))


@dataclass(frozen=True, slots=True)
class _FlowRows:
    """Columns of flows, seen from the local side."""

    sockets: _Sockets
    time: _Ints
    tcp: _Bools
    counts: dict[str, _Ints]  # COUNTS for each row

    @classmethod
    def of(cls, flows: pa.Table) -> _FlowRows:
        inbound, denied = _is_word(flows, "direction", "inbound"), _is_word(flows, "action", "deny")
        protocol = _integers(flows, "protocol")

        def counted(local: str, remote: str) -> _Ints:
            return np.minimum(np.where(inbound, _integers(flows, local), _integers(flows, remote)), MOST)

        # A denied NSG tuple carries the state "begin", but nothing began.
        begins = _is_word(flows, "state", "begin") & (protocol == TCP) & ~denied
        counts = {
            "flows": np.ones(len(flows), np.int64),
            "begins": begins.astype(np.int64),
            "denied": denied.astype(np.int64),
            "packets_in": counted("packets_sent", "packets_received"),
            "packets_out": counted("packets_received", "packets_sent"),
            "bytes_in": counted("bytes_sent", "bytes_received"),
            "bytes_out": counted("bytes_received", "bytes_sent"),
        }
        ends = flows.column("src_ip"), flows.column("dst_ip")
        sockets = _Sockets.seen(ends, inbound, (protocol, _integers(flows, "dst_port")), flows.column("direction"))
        return cls(sockets, _integers(flows, "time"), protocol == TCP, counts)


def _minutes(rows: _FlowRows, by_socket: _Groups) -> list[tuple[int, pa.Table]]:
    minute = rows.time - rows.time % MINUTE_MS
    seen = Combinations.of((minute,))
    in_order = np.argsort(minute[seen.row])
    minutes, which = minute[seen.row[in_order]], np.argsort(in_order)[seen.of_row]
    count = len(by_socket.group)
    groups = by_socket if len(minutes) == 1 else _Groups.of(which * count + rows.sockets.number)
    values = {name: groups.sum(rows.counts[name]) for name in COUNTS}
    of_minute, socket = np.divmod(groups.group, count)
    table = _table(SUMS, rows.sockets.of(socket), values)
    starts = np.flatnonzero(np.diff(of_minute, prepend=-1)).tolist()
    ends = [*starts[1:], len(of_minute)]
    return [(one, table.slice(a, b - a)) for one, a, b in zip(minutes.tolist(), starts, ends, strict=True)]


def _sessions(rows: _FlowRows, groups: _Groups, timeout_ms: int) -> pa.Table:
    """Add up the rows after each socket's last restart and, separately, all rows."""
    time, tcp = rows.time[groups.order], rows.tcp[groups.order]
    begins = rows.counts["begins"][groups.order] > 0
    silent = ~tcp & ~groups.is_first & (np.diff(time, prepend=time[0]) > timeout_ms)
    last_restart = groups.last_of(begins | silent)
    kept = groups.from_rows(last_restart)
    traffic = {name: rows.counts[name][groups.order] for name in TRAFFIC}
    values = {
        "since": np.minimum.reduceat(np.where(kept, time, np.iinfo(np.int64).max), groups.starts),
        "last": np.maximum.reduceat(time, groups.starts),
        "restarted": (last_restart >= 0).astype(np.int64),
        **{name: groups.sum_sorted(np.where(kept, one, 0)) for name, one in traffic.items()},
        "flows": groups.ends - groups.starts,
        **{f"total_{name}": groups.sum_sorted(one) for name, one in traffic.items()},
    }
    return _table(SESSIONS, rows.sockets.of(groups.group), values)


def _table(schema: pa.Schema, socket: Sequence[pa.Array], values: dict[str, _Ints]) -> pa.Table:
    return pa.Table.from_arrays([*socket, *(pa.array(values[name]) for name in schema.names[len(SOCKET) :])], schema=schema)


def _integers(table: pa.Table, name: str) -> _Ints:
    """Return integers or times, with 0 for nulls."""
    column = table.column(name).combine_chunks()
    kind = pa.int64() if pa.types.is_timestamp(column.type) else column.type
    # Treat all values as valid: with nulls, NumPy would return floating-point numbers.
    values: _Ints = pa.Array.from_buffers(kind, len(column), [None, column.buffers()[1]], offset=column.offset).to_numpy()
    values = values.astype(np.int64, copy=False)
    return np.where(column.is_valid().to_numpy(zero_copy_only=False), values, 0) if column.null_count else values


def _words(column: pa.ChunkedArray) -> tuple[pa.Array, _Ints]:
    """Return the distinct words of a column ("unknown" for null) and the index of each row's word."""
    array = column.unify_dictionaries().combine_chunks()
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    codes = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy()
    # Encoded again: a dictionary may hold a word twice, or already hold "unknown".
    words = pc.fill_null(pa.concat_arrays([encoded.dictionary, pa.array([None], pa.string())]), "unknown").dictionary_encode()
    return words.dictionary, words.indices.to_numpy().astype(np.int64)[codes]


def _is_word(table: pa.Table, name: str, word: str) -> _Bools:
    """Return in which rows a dictionary column has a word."""
    array = table.column(name).unify_dictionaries().combine_chunks()
    has_it = np.array([*(value == word for value in array.dictionary.to_pylist()), False], np.bool_)
    is_word: _Bools = has_it[array.indices.fill_null(len(array.dictionary)).to_numpy()]
    return is_word
