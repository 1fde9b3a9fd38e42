"""Which prefixes a scan lists."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from libs.common.settings.monitor import DateRange, MonitorSettings
from libs.common.settings.storage import NameLayout
from services.blob_monitor.prefixes import all_prefixes, current_prefixes, time_prefix

NOON = datetime(2026, 5, 2, 12, 30, tzinfo=UTC)


def settings(**values: Any) -> MonitorSettings:
    """Return settings with a date range given as a dictionary."""
    if isinstance(values.get("date_range"), dict):
        values["date_range"] = DateRange(**values["date_range"])
    return MonitorSettings(**values)


def test_the_hourly_layout_lists_the_current_hour_and_those_before_it() -> None:
    """Hours are UTC path hours, newest first, across midnight."""
    after_midnight = datetime(2026, 5, 2, 0, 10, tzinfo=UTC)
    assert current_prefixes(NameLayout.HOURLY, "x/", after_midnight, settings(hours_back=2)) == [
        "x/y=2026/m=05/d=02/h=00/",
        "x/y=2026/m=05/d=01/h=23/",
        "x/y=2026/m=05/d=01/h=22/",
    ]


@pytest.mark.parametrize(
    ("now", "zone", "expected"),
    [
        (datetime(2026, 5, 2, 12, 0, tzinfo=UTC), "UTC", ["k/20260502"]),
        (datetime(2026, 5, 2, 0, 59, tzinfo=UTC), "UTC", ["k/20260502", "k/20260501"]),
        (datetime(2026, 5, 2, 1, 0, tzinfo=UTC), "UTC", ["k/20260502"]),
        # 22:30 UTC is half past midnight of the next day in Amsterdam's summer.
        (datetime(2026, 5, 2, 22, 30, tzinfo=UTC), "Europe/Amsterdam", ["k/20260503", "k/20260502"]),
        # In winter it is still 23:30 of the same day.
        (datetime(2026, 1, 2, 22, 30, tzinfo=UTC), "Europe/Amsterdam", ["k/20260102"]),
    ],
)
def test_the_dated_layout_lists_today_and_a_young_days_yesterday(now: datetime, zone: str, expected: list[str]) -> None:
    """Yesterday is listed as well during the first minutes of the configured zone's day."""
    assert current_prefixes(NameLayout.DATED, "k/", now, settings(timezone=zone, end_of_day_overlap_minutes=60)) == expected


def test_the_flat_layout_lists_its_prefix_each_time() -> None:
    """Names without time leave no choice."""
    assert current_prefixes(NameLayout.FLAT, "p/", NOON, settings()) == ["p/"]
    assert all_prefixes(NameLayout.FLAT, "p/", NOON, settings(date_range={"days_back": 3})) == ["p/"]


def test_without_a_date_range_a_full_listing_is_the_whole_prefix() -> None:
    """So it sees every blob, whatever its name."""
    assert all_prefixes(NameLayout.HOURLY, "x/", NOON, settings()) == ["x/"]


def test_a_date_range_lists_whole_days_and_the_hours_of_today_that_have_begun() -> None:
    """In UTC a past day is one prefix; today is listed by hours, none in the future."""
    found = all_prefixes(NameLayout.HOURLY, "x/", NOON, settings(date_range={"days_back": 1}))
    assert found[0] == "x/y=2026/m=05/d=01/"
    assert found[1:] == [f"x/y=2026/m=05/d=02/h={hour:02}/" for hour in range(13)]


@pytest.mark.parametrize(
    ("day", "zone", "hours"),
    [
        (date(2026, 3, 29), "Europe/Amsterdam", 23),  # clocks go forward
        (date(2026, 10, 25), "Europe/Amsterdam", 25),  # clocks go back
        (date(2026, 5, 1), "Europe/Amsterdam", 24),
        (date(2026, 5, 1), "Asia/Kolkata", 25),  # half hours: the first and last path hour belong to two days
    ],
)
def test_a_local_day_is_listed_by_the_utc_hours_it_overlaps(day: date, zone: str, hours: int) -> None:
    """A specific day of a zone is as long as its clocks make it."""
    chosen = settings(timezone=zone, date_range={"specific_date": day, "monitor_current_day": False})
    later = datetime(2026, 12, 1, tzinfo=UTC)
    assert len(all_prefixes(NameLayout.HOURLY, "x/", later, chosen)) == hours
    assert current_prefixes(NameLayout.HOURLY, "x/", later, chosen) == []


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"specific_date": date(2026, 4, 1)}, ["k/20260401", "k/20260502"]),
        ({"specific_date": date(2026, 4, 1), "monitor_current_day": False}, ["k/20260401"]),
        ({"days_back": 1, "monitor_current_day": False}, ["k/20260501"]),
        ({"days_back": 0}, ["k/20260502"]),
        ({"monitor_current_day": False}, ["k/"]),
    ],
)
def test_a_day_days_back_and_today_are_separate_choices(chosen: dict[str, Any], expected: list[str]) -> None:
    """Each adds its days to a full listing, and only today is listed at every interval."""
    assert all_prefixes(NameLayout.DATED, "k/", NOON, settings(date_range=chosen)) == expected
    today = [] if "monitor_current_day" in chosen else ["k/20260502"]
    assert current_prefixes(NameLayout.DATED, "k/", NOON, settings(date_range=chosen)) == today


def test_the_dated_layout_lists_the_days_of_the_range() -> None:
    """Days back are counted from today in the configured zone."""
    assert all_prefixes(NameLayout.DATED, "k/", NOON, settings(date_range={"days_back": 2})) == [
        "k/20260430",
        "k/20260501",
        "k/20260502",
    ]


@pytest.mark.parametrize(
    ("layout", "name", "expected"),
    [
        (NameLayout.HOURLY, "x/y=2026/m=05/d=01/h=07/m=00/macAddress=1/PT1H.json", "x/y=2026/m=05/d=01/h=07/"),
        (NameLayout.DATED, "x/20260501.api-1.gz", "x/20260501"),
        (NameLayout.DATED, "x/readme", "x/readme"),
        (NameLayout.FLAT, "x/a", "x/a"),
    ],
)
def test_an_open_blob_is_followed_by_the_hour_or_day_it_lies_in(layout: NameLayout, name: str, expected: str) -> None:
    """A name without time is followed by itself."""
    assert time_prefix(layout, "x/", name) == expected
