"""The ``etcd`` sink: one key per row in etcd 3.4 or later, effectively once.

A row is a key that ends in the row's identity, ``/flowlogs/<category>/<time>_<src>_<dst>_<position>``, so no two rows have the
same key and a replay makes the same keys. Keys are created by transactions that leave existing keys unchanged. Several
transactions are under way at the same time, each within the server's limits of operations and bytes. Of row types of which only
the newest row of a key counts, the value of the key is replaced instead.

Promise: effectively once, as long as keys exist. With ``ttl_seconds`` keys expire, and a row that is replayed after that is
written again: at least once. A full database, a cluster without a leader and the like delay the sink; a row that is too large
is reported in the outcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from libs.common.errors import Retry, ServerUnreachable
from libs.common.http.client import HttpClient
from libs.common.rows.formats.encoders import encoder_for
from libs.common.rows.row_type import RowType
from services.sinks.frame.contract import Outcome, Part, RejectedRow, Sink
from services.sinks.frame.in_flight import InFlight
from services.sinks.frame.kind import Promise
from services.sinks.kinds.etcd.gateway import Gateway, LeaseGone
from services.sinks.kinds.etcd.keys import KeyMaker
from services.sinks.kinds.etcd.leases import Leases
from services.sinks.kinds.etcd.settings import EtcdSettings
from services.sinks.kinds.etcd.transactions import Entries, Limits, Transactions, Written, cut

_ROWS_AT_ONCE: Final = 2_048  # bounds the memory of a write


@dataclass(frozen=True, slots=True)
class _Open:
    """What an open sink has."""

    client: HttpClient
    transactions: Transactions
    leases: Leases


class EtcdSink(Sink):
    """Rows as keys."""

    def __init__(self, settings: EtcdSettings, row_type: RowType, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._keeps_newest = bool(row_type.keys)
        self._keys = KeyMaker(settings.key_prefix(row_type), settings.key_template(row_type), row_type)
        self._encoder = encoder_for(settings.format, row_type, settings.shape(row_type))
        self._limits = Limits(settings.transaction_rows, settings.request_bytes)
        self._open: _Open | None = None
        # Values of one key have to be put in their order.
        self._in_flight = InFlight(1 if self._keeps_newest else settings.in_flight, "etcd")

    @property
    def promise(self) -> Promise:
        """Keys that have expired do not tell that their row was written."""
        return Promise.AT_LEAST_ONCE if self._settings.ttl_seconds else Promise.EFFECTIVELY_ONCE

    def read_files(self) -> None:
        """Read the password and check the TLS files."""
        self._settings.login()
        self._settings.connection()

    def open(self) -> None:
        """Sign in, and check that the user may write."""
        self.close()
        settings = self._settings
        login = settings.login()
        client = HttpClient(settings.connection())
        gateway = Gateway(client, login)
        transactions = Transactions(gateway, self._limits, keeps_newest=self._keeps_newest)
        try:
            gateway.check_version()
            transactions.probe(self._keys.example.encode())
        except Retry as error:
            client.close()
            raise ServerUnreachable(f"{error}; is etcd running, and are the sink's hosts correct?") from error
        except BaseException:
            client.close()
            raise
        leases = Leases(gateway, settings.ttl_seconds, self._clock)
        self._open = _Open(client, transactions, leases)
        self._in_flight.open()

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Create the keys that are not there."""
        total = Written()
        rejected: list[RejectedRow] = []
        for (part, _, _), written in self._in_flight.results(self._batches(parts, total), self._write):
            rejected += [RejectedRow(part, row, code, reason) for row, code, reason in written.refused]
            total.add(written)
        return Outcome(total.written, total.already_there, tuple(rejected))

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` while waiting for responses."""
        self._in_flight.beat = beat

    def close(self) -> None:
        """Close connections; idempotent."""
        self._in_flight.close()
        if self._open is not None:
            self._open.client.close()
            self._open = None

    def _batches(self, parts: Sequence[Part], total: Written) -> Iterator[tuple[int, Entries, int]]:
        """Divide rows into transactions with their part and lease; rows that come twice are counted in `total`."""
        assert self._open is not None, "open first"  # noqa: S101
        for number, part in enumerate(parts):
            for start in range(0, part.rows.num_rows, _ROWS_AT_ONCE):
                rows = part.rows.slice(start, _ROWS_AT_ONCE)
                entries = self._entries(rows, start)
                total.already_there += rows.num_rows - len(entries)
                for batch in cut(entries, self._limits):
                    yield number, batch, self._open.leases.take(len(batch))

    def _entries(self, rows: pa.Table, start: int) -> Entries:
        """Return rows with distinct keys: of equal ones the last if only the newest counts, else any."""
        keys = self._keys.keys(rows)
        at = {key: number for number, key in enumerate(keys)}  # of each key, the last
        values = self._encoder.encode(rows)
        return Entries.of([start + row for row in at.values()], list(at), [values[row] for row in at.values()])

    def _write(self, batch: tuple[int, Entries, int]) -> Written:
        _, entries, lease = batch
        assert self._open is not None, "open first"  # noqa: S101
        try:
            return self._open.transactions.write(entries, lease)
        except LeaseGone as error:
            self._open.leases.lost(lease)
            raise Retry(f"etcd: {error}; another one is taken", after=0.1, kind="lease") from error
