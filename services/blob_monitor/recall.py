"""Read the state topic again for what is not in memory: rows of all blobs of some scopes, and names known only by digest.

This runs in a job's thread, before these scopes are listed in full.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import structlog

from libs.common.errors import CodecError, Retry, ServerUnreachable
from libs.common.kafka.records import Inbound, MakeTable
from libs.common.messages.events import BlobState, read_fields
from libs.common.packed import PackedTable, digest_of
from services.blob_monitor.listing import Job, Message, Recalled
from services.blob_monitor.rows import ROW, RowForm
from services.blob_monitor.sources import Atlas, Scope, Territory

log = structlog.get_logger(__name__)

_PATIENCE_SECONDS: Final = 10.0
_WAITING_ROWS: Final = 16


class Recaller:
    """Carries out `Job.recall` and `Job.doomed`."""

    def __init__(self, make_table: MakeTable, territories: Iterable[Territory], form: RowForm) -> None:
        self._make_table = make_table
        self._territories = tuple(territories)
        self._form = form

    def recall(self, job: Job) -> Iterator[Message]:
        """Yield what was requested; nothing if Kafka cannot be read now, so that it is requested again."""
        collector = _Collector(self._territories, self._form, job.recall, job.doomed)
        table = self._make_table(collector.apply)

        def between() -> None:
            if job.cancelled.is_set():
                raise Retry("the job is cancelled")

        try:
            table.open()
            table.catch_up(_PATIENCE_SECONDS, between)
        except (ServerUnreachable, Retry) as error:
            if not job.cancelled.is_set():
                log.warning("cannot read the state topic for a full listing; will retry", error=str(error))
            return
        finally:
            table.close()
        for rows in collector.rows.values():
            rows.rows()  # merges them
        yield Recalled(collector.rows, {key: frozenset(names) for key, names in collector.names.items()})


class _Collector:
    """Collects from the state topic, read from its beginning."""

    def __init__(
        self, territories: Iterable[Territory], form: RowForm, scopes: Iterable[Scope], doomed: Mapping[str, frozenset[bytes]]
    ) -> None:
        self._atlas = Atlas(territories)
        self._form = form
        self._doomed = doomed
        self.rows = {scope.key: PackedTable(ROW, _WAITING_ROWS) for scope in scopes}
        accounts = {key.partition("/")[0] for key in (*self.rows, *doomed)}
        self._starts = tuple(f"{account}/".encode() for account in accounts)
        self.names: defaultdict[str, set[str]] = defaultdict(set)

    def apply(self, record: Inbound) -> None:
        """Apply a record; unreadable ones were reported when first read."""
        key = record.key or b""
        if not key.startswith(self._starts):
            return
        try:
            found = self._atlas.find(key.decode())
            if found is not None:
                self._take(found[0], found[1], record.value)
        except (CodecError, UnicodeDecodeError):
            return

    def _take(self, scope: Scope, name: str, value: bytes | None) -> None:
        rest = name[len(scope.prefix) :].encode()
        if (digests := self._doomed.get(scope.key)) and digest_of(rest) in digests:
            self.names[scope.key].add(name)
            if value is None:
                self.names[scope.key].discard(name)
        rows = self.rows.get(scope.key)
        if rows is None:
            return
        if value is None:
            rows.remove(rest)
        elif fields := read_fields(value, BlobState):
            rows.put(rest, self._form.pack_fields(fields, 0))
