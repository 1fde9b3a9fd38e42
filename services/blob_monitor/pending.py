"""What has been decided and not been committed yet: one transaction in the making, and a view of memory as if it were done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from libs.common.kafka.records import Outbound
from services.blob_monitor import metrics
from services.blob_monitor.evaluate import Known
from services.blob_monitor.memory import Memory
from services.blob_monitor.sources import Scope

_MAX_BLOBS = 500
_MAX_SECONDS = 1.0


@dataclass(slots=True)
class Pending:
    """Records of one transaction and the memory they will leave."""

    since: float  # monotonic seconds at which the transaction before it ended; after a pause the first record goes at once
    outputs: list[Outbound] = field(default_factory=list)
    _updates: dict[tuple[str, str], tuple[Scope, Known | None]] = field(default_factory=dict)
    _events: Counter[tuple[str, str]] = field(default_factory=Counter)

    def is_due(self, now: float) -> bool:
        """Tell whether it is time to commit."""
        return bool(self.outputs) and (len(self._updates) >= _MAX_BLOBS or now - self.since >= _MAX_SECONDS)

    def look_up(self, scope: Scope, name: str, memory: Memory) -> Known | None:
        """Return what will be remembered of a blob."""
        update = self._updates.get((scope.key, name))
        return update[1] if update else memory.get(scope, name)

    def update(self, scope: Scope, name: str, known: Known | None) -> None:
        """Plan to remember `known` of a blob, or to forget it."""
        self._updates[scope.key, name] = scope, known

    def add(self, account: str, kind: str, record: Outbound) -> None:
        """Plan to write a record; `kind` is its event's type, for the metrics."""
        self.outputs.append(record)
        self._events[account, kind] += 1

    def committed(self, memory: Memory) -> None:
        """Bring everything planned into `memory`."""
        for (_, name), (scope, known) in self._updates.items():
            memory.put(scope, name, known)
        for (account, kind), count in self._events.items():
            metrics.EVENTS.labels(account, kind).inc(count)
