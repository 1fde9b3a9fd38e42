"""Which hours of an hourly scope are listed this time: the current one, and earlier ones until they are complete.

Blobs of the current hour are written once a minute. Those of the hour before may get their last blocks minutes late; when
nothing in it is open any more, only full listings look there again. Where the user has not set the interval, hours that are
about to be complete, and scopes in which nothing is written, are not listed every time.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from services.blob_monitor.prefixes import end_of_hour
from services.blob_monitor.sources import Scope

# Writers are late by so much as a rule.
_LATE = timedelta(minutes=5)
_ONE_HOUR = timedelta(hours=1)
# Of so many turns, one is for what is unlikely to have changed.
SELDOM: Final = 5
ALWAYS: Final = 1


@dataclass(slots=True)
class _Pulse:
    """What the last listings of a scope have shown."""

    complete: set[str] = field(default_factory=set)
    is_idle: bool = False  # nothing in the current hour


class Rhythm:
    """Remembers, by scope, which hours are complete. `every`: how many turns make one for what is unlikely to change."""

    def __init__(self, every: int, settled_after: timedelta) -> None:
        self._every = every
        self._settled_after = settled_after
        self._pulses: dict[str, _Pulse] = {}

    def due(self, scope: Scope, hours: tuple[str, ...], still_open: Collection[str], turn: tuple[int, datetime]) -> list[str]:
        """Return what to list at `turn`, its number and time: of `hours`, newest first, and of the hours `still_open`."""
        number, now = turn
        pulse = self._pulses.setdefault(scope.key, _Pulse())
        pulse.complete.intersection_update(set(hours).difference(still_open))
        seldom = (number + zlib.crc32(scope.key.encode())) % self._every == 0  # not all scopes at the same turn
        if pulse.is_idle and not still_open and not seldom:
            return []
        older = [*hours[1:], *sorted(set(still_open).difference(hours))]
        wanted = [hour for hour in older if hour not in pulse.complete and (seldom or _is_young(scope, hour, now))]
        return [*hours[:1], *wanted]

    def listed(self, scope: Scope, hour: str, found: int, started_at: datetime) -> None:
        """Take note that `found` blobs were in `hour` when it was listed."""
        pulse = self._pulses.get(scope.key)
        ends = end_of_hour(scope.prefix, hour)
        if pulse is None or ends is None:
            return
        if found and started_at < ends:
            pulse.is_idle = False
        elif ends - _ONE_HOUR + _LATE <= started_at < ends:  # not when the hour has just begun
            pulse.is_idle = True
        elif found and started_at >= ends + self._settled_after:
            pulse.complete.add(hour)

    def forget(self) -> None:
        """Begin anew."""
        self._pulses.clear()


def _is_young(scope: Scope, hour: str, now: datetime) -> bool:
    ends = end_of_hour(scope.prefix, hour)
    return ends is not None and now < ends + _LATE
