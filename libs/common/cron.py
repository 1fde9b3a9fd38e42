"""Cron expressions: when they match, in a time zone. Pure.

Five fields, as in crontab(5), with names of months and days, steps, and the extensions `L`, `LW` and `MON#2` of cronsim, which
decides what matches. When clocks change, it does what Debian's cron does: with fixed minutes and hours, a time that is left out
matches at the end of the gap, and one that is there twice matches once; with a star in either, whatever a clock shows matches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_FIELDS: Final = 5
_SOME_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)
# Times of day that occur twice are tried in an order that ignores the second time: begin beyond any change of the clock.
_BEYOND: Final = timedelta(hours=3)
_LONG_AGO: Final = datetime(1, 1, 2, tzinfo=UTC)
_NEVER: Final = datetime(9999, 12, 30, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CronMatch:
    """The latest match at or before a time, and the next one after it, in UTC; none is further away than 50 years."""

    latest: datetime
    following: datetime


class CronTimes:
    """The times that match an expression.

    Raises:
        ValueError: there are none; says what is wrong and what an expression looks like.
    """

    def __init__(self, expression: str, zone: ZoneInfo) -> None:
        self._expression = expression
        self._zone = zone
        problem = _problem_of(expression)
        if problem:
            raise ValueError(f'{problem}; give minute, hour, day of month, month and day of week, such as "5 * * * *"')
        self._match = CronMatch(_LONG_AGO, _LONG_AGO)

    def at(self, now: datetime) -> CronMatch:
        """Return the matches around `now`."""
        if not self._match.latest <= now < self._match.following:
            self._match = self._found(now)
        return self._match

    def _found(self, now: datetime) -> CronMatch:
        latest = next((time for time in self._times(now + _BEYOND, reverse=True) if time <= now), _LONG_AGO)
        following = next((time for time in self._times(now - _BEYOND, reverse=False) if time > now), _NEVER)
        return CronMatch(latest, following)

    def _times(self, start: datetime, *, reverse: bool) -> Iterator[datetime]:
        for time in CronSim(self._expression, start.astimezone(self._zone), reverse=reverse):
            yield time.astimezone(UTC)


def _problem_of(expression: str) -> str:
    """Return what is wrong with an expression; empty if nothing is."""
    if (fields := len(expression.split())) != _FIELDS:
        return f"a cron expression has {_FIELDS} fields, not {fields}"
    try:
        found = next(CronSim(expression, _SOME_TIME), None)
    except CronSimError as error:
        return f"not a cron expression: {str(error).lower()}"
    return "" if found is not None else "no time matches this cron expression"
