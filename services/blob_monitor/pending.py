"""Decisions not yet committed: a transaction being assembled, and a view of memory as if it were committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.common.azure.storage.api import Receipt
from libs.common.kafka.records import Outbound
from services.blob_monitor import metrics
from services.blob_monitor.evaluate import Known
from services.blob_monitor.memory import Memory
from services.blob_monitor.sources import Scope

_MAX_BLOBS = 500
_MAX_SECONDS = 1.0
_MAX_SECONDS_OF_EVENTS = 0.5  # a blob named by an event must be announced within two seconds


@dataclass(slots=True)
class PendingTransaction:
    """The records of one transaction, and the resulting changes to memory."""

    since: float  # monotonic time at which the previous transaction ended; after a pause, the first record is committed at once
    outputs: list[Outbound] = field(default_factory=list)
    receipts: dict[str, list[Receipt]] = field(default_factory=dict)  # by account: messages to delete afterwards
    _updates: dict[str, tuple[Scope, dict[str, Known | None]]] = field(default_factory=dict)
    _count: int = 0
    _events: Counter[tuple[str, str]] = field(default_factory=Counter)

    def is_due(self, now: float) -> bool:
        """Return whether it is time to commit."""
        most = _MAX_SECONDS_OF_EVENTS if self.receipts else _MAX_SECONDS
        return bool(self.outputs or self.receipts) and (self._count >= _MAX_BLOBS or now - self.since >= most)

    def of(self, scope: Scope) -> Mapping[str, Known | None]:
        """Return what will be remembered of blobs of a scope, by name; None for a blob to be forgotten."""
        found = self._updates.get(scope.key)
        return found[1] if found else {}

    def update(self, scope: Scope, name: str, known: Known | None) -> None:
        """Plan to remember `known` of a blob, or to forget it."""
        _, updates = self._updates.setdefault(scope.key, (scope, {}))
        self._count += name not in updates
        updates[name] = known

    def add(self, account: str, kind: str, record: Outbound) -> None:
        """Plan to write a record; `kind` is its event's type, for the metrics."""
        self.outputs.append(record)
        self._events[account, kind] += 1

    def settle(self, account: str, receipt: Receipt) -> None:
        """Plan to delete a message that has been handled."""
        self.receipts.setdefault(account, []).append(receipt)

    def committed(self, memory: Memory) -> None:
        """Apply all planned changes to `memory`."""
        for scope, updates in self._updates.values():
            for name, known in updates.items():
                memory.put(scope, name, known)
        for (account, kind), count in self._events.items():
            metrics.EVENTS.labels(account, kind).inc(count)
