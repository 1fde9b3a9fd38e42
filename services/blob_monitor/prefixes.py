"""Compute the prefixes to list in each layout, from the times that names carry. Pure; time is an argument.

Hours in paths are UTC. Days (``date_range``, dated names, the end-of-day overlap) are in the configured time zone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from zoneinfo import ZoneInfo

from libs.common.settings.monitor import MonitorSettings
from libs.common.settings.storage import NameLayout

_HOUR = re.compile(r"y=\d{4}/m=\d\d/d=\d\d/h=\d\d/")
_DAY = re.compile(r"[0-9]{8}")
_TIMES = {NameLayout.HOURLY: _HOUR, NameLayout.DATED: _DAY}
_BEHIND_ALL = "~"
_ONE_HOUR = timedelta(hours=1)
_HOURS_OF_A_DAY = 24


def current_prefixes(layout: NameLayout, prefix: str, now: datetime, settings: MonitorSettings) -> list[str]:
    """Return the prefixes listed at every interval, where blobs grow now."""
    match layout:
        case NameLayout.FLAT:
            return [prefix]
        case _ if not settings.date_range.monitor_current_day:
            return []
        case NameLayout.HOURLY:
            return [prefix + _hour(now.astimezone(UTC) - back * _ONE_HOUR) for back in range(settings.hours_back + 1)]
        case NameLayout.DATED:
            return [prefix + f"{day:%Y%m%d}" for day in _current_days(now, settings)]


def all_prefixes(layout: NameLayout, prefix: str, now: datetime, settings: MonitorSettings) -> list[str]:
    """Return the prefixes of a full listing: the whole prefix, or the configured days in it."""
    days = _configured_days(now, settings)
    if days is None or layout is NameLayout.FLAT:
        return [prefix]
    if layout is NameLayout.DATED:
        return [prefix + f"{day:%Y%m%d}" for day in days]
    return [prefix + part for part in _cover(_hours_of(days, now, ZoneInfo(settings.timezone)))]


def time_prefix(layout: NameLayout, prefix: str, name: str) -> str:
    """Return the prefix of the hour or day that contains `name`; the name itself if it carries no time."""
    part = time_part(layout, name, len(prefix))
    return name if part is None else prefix + part


def time_part(layout: NameLayout, name: str, start: int) -> str | None:
    """Return the hour or day that `name` has at `start`; these parts sort in order of time."""
    pattern = _TIMES.get(layout)
    found = pattern.match(name, start) if pattern else None
    return found.group() if found else None


def day_of(layout: NameLayout, name: str, start: int) -> date | None:
    """Return the day that a name or prefix has at `start`, in the dated layout; None if it has none."""
    part = time_part(layout, name, start) if layout is NameLayout.DATED else None
    if part is None:
        return None
    try:
        return datetime.strptime(part, "%Y%m%d").date()  # noqa: DTZ007 - a day of the zone of the names
    except ValueError:
        return None


def horizons(now: datetime, settings: MonitorSettings) -> dict[NameLayout, str]:
    """Return, by layout, the oldest hour or day listed at every interval; if there is none, a value that sorts last."""
    listed = {layout: current_prefixes(layout, "", now, settings) for layout in _TIMES}
    return {layout: min(parts, default=_BEHIND_ALL) for layout, parts in listed.items()}


def end_of_hour(prefix: str, name: str) -> datetime | None:
    """Return the end of the hour that contains `name`, in the hourly layout; None if it names no valid hour."""
    found = _HOUR.match(name, len(prefix))
    if found is None:
        return None
    try:
        return datetime.strptime(f"{found.group()}+0000", "y=%Y/m=%m/d=%d/h=%H/%z") + _ONE_HOUR
    except (ValueError, OverflowError):
        return None


def _current_days(now: datetime, settings: MonitorSettings) -> list[date]:
    """Return today, and also yesterday in the first minutes of the day."""
    local = now.astimezone(ZoneInfo(settings.timezone))
    minutes = local.hour * 60 + local.minute
    today = local.date()
    return [today, today - timedelta(days=1)] if minutes < settings.end_of_day_overlap_minutes else [today]


def _configured_days(now: datetime, settings: MonitorSettings) -> list[date] | None:
    """Return the days of the date range, oldest first; None if there is no range."""
    chosen = settings.date_range
    if chosen.specific_date is None and chosen.days_back is None:
        return None
    today = now.astimezone(ZoneInfo(settings.timezone)).date()
    days = {chosen.specific_date} if chosen.specific_date is not None else set[date | None]()
    days |= {today - timedelta(days=back) for back in range(1, (chosen.days_back or 0) + 1)}
    days |= {today} if chosen.monitor_current_day else set()
    return sorted(day for day in days if day is not None)


def _hours_of(days: Iterable[date], now: datetime, zone: ZoneInfo) -> set[datetime]:
    """Return the UTC hours that overlap the given local days and have begun; a day has 23 to 25 of them."""
    hours = set()
    for day in days:
        hour = _midnight(day, zone).replace(minute=0)
        end = min(_midnight(day + timedelta(days=1), zone), now)
        while hour < end:
            hours.add(hour)
            hour += _ONE_HOUR
    return hours


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _cover(hours: Iterable[datetime]) -> Iterator[str]:
    """Yield one prefix for each complete UTC day and one for each other hour."""
    for _, group in groupby(sorted(hours), key=datetime.date):
        of_day = list(group)
        if len(of_day) == _HOURS_OF_A_DAY:
            yield f"{of_day[0]:y=%Y/m=%m/d=%d/}"
        else:
            yield from map(_hour, of_day)


def _hour(time: datetime) -> str:
    return f"{time:y=%Y/m=%m/d=%d/h=%H/}"
