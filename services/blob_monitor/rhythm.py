"""Select the hours of an hourly scope to list: the current one, and earlier ones until they are complete.

Blobs of the current hour are written once a minute. Those of the previous hour may get their last blocks minutes late; once
none of them is open, only full listings look there again. If the user has not set the interval, hours that are nearly complete,
and scopes in which nothing is written, are not listed every time.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from services.blob_monitor.prefixes import end_of_hour
from services.blob_monitor.sources import Scope

# How late writers usually are.
_LATE = timedelta(minutes=5)
_ONE_HOUR = timedelta(hours=1)
# One in this many turns also covers what is unlikely to have changed.
SELDOM: Final = 5
ALWAYS: Final = 1


@dataclass(slots=True)
class _Pulse:
    """Results of the last listings of a scope."""

    complete: set[str] = field(default_factory=set)
    is_idle: bool = False  # nothing in the current hour


class Rhythm:
    """Remembers, per scope, which hours are complete. One in `every` turns covers what is unlikely to have changed."""

    def __init__(self, every: int, settled_after: timedelta) -> None:
        self._every = every
        self._settled_after = settled_after
        self._pulses: dict[str, _Pulse] = {}

    def due(self, scope: Scope, hours: tuple[str, ...], still_open: Collection[str], turn: tuple[int, datetime]) -> list[str]:
        """Return the hours to list at `turn` (number, time), out of `hours`, newest first, and the hours `still_open`."""
        number, now = turn
        pulse = self._pulses.setdefault(scope.key, _Pulse())
        pulse.complete.intersection_update(set(hours).difference(still_open))
        seldom = (number + zlib.crc32(scope.key.encode())) % self._every == 0  # spread the scopes over the turns
        if pulse.is_idle and not still_open and not seldom:
            return []
        older = [*hours[1:], *sorted(set(still_open).difference(hours))]
        wanted = [hour for hour in older if hour not in pulse.complete and (seldom or _is_young(scope, hour, now))]
        return [*hours[:1], *wanted]

    def listed(self, scope: Scope, hour: str, found: int, started_at: datetime) -> None:
        """Record that a listing of `hour` found `found` blobs."""
        pulse = self._pulses.get(scope.key)
        ends = end_of_hour(scope.prefix, hour)
        if pulse is None or ends is None:
            return
        if found and started_at < ends:
            pulse.is_idle = False
        elif ends - _ONE_HOUR + _LATE <= started_at < ends:  # not if the hour has only just begun
            pulse.is_idle = True
        elif found and started_at >= ends + self._settled_after:
            pulse.complete.add(hour)

    def forget(self) -> None:
        """Forget everything."""
        self._pulses.clear()


def _is_young(scope: Scope, hour: str, now: datetime) -> bool:
    ends = end_of_hour(scope.prefix, hour)
    return ends is not None and now < ends + _LATE
