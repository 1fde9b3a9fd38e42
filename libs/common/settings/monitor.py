"""Settings of the monitor."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from libs.common.settings.base import Group


class StartPolicy(StrEnum):
    """What a monitor does with what is there when it starts."""

    RESUME = "resume"  # go on from the recorded state
    START_OVER = "start_over"  # announce everything again, to be read from the beginning
    START_FRESH = "start_fresh"  # what is there counts as read; only growth is announced
    FROM = "from"  # blobs last written before `start_from` count as read


class ResumePolicy(StrEnum):
    """By what a monitor knows what it has seen."""

    REGISTRY = "registry"  # the compacted state topic, per blob
    TIMESTAMP = "timestamp"  # one time: unknown blobs written before the last full listing are left alone


# So far that no arithmetic with hours and time zones ends beyond what a date can be.
_FIRST_DAY, _LAST_DAY = date(1970, 1, 2), date(9998, 12, 31)


class DateRange(Group):
    """Which days are listed, in layouts whose names carry a date. Each choice adds its days; without the first two: all."""

    specific_date: date | None = Field(default=None, ge=_FIRST_DAY, le=_LAST_DAY, description="List this day in full listings.")
    days_back: int | None = Field(default=None, ge=0, le=3650, description="List this many days before today.")
    monitor_current_day: bool = Field(default=True, description="List today too, at every interval.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.specific_date is not None and self.days_back is not None:
            raise ValueError("give specific_date or days_back, not both")
        return self


class EventSettings(Group):
    """Environments whose `events` name a queue."""

    listing_seconds: float = Field(
        default=600.0,
        gt=0,
        description="Time between two listings of where blobs grow, while the queue can be read; they find what no event told.",
    )
    poll_seconds: float = Field(default=0.5, gt=0, le=60, description="How often an empty queue is asked.")
    visibility_seconds: int = Field(
        default=60, ge=1, le=3600, description="A message that was read and not dealt with comes again after so long."
    )
    max_deliveries: int = Field(
        default=20, ge=1, le=10_000, description="A message that was read more often than this goes to Errors."
    )


class MonitorSettings(Group):
    """blob_monitor."""

    interval_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Time between two listings of where blobs grow. Not set: 30, and in layout hourly 60, five times as long "
        "where nothing is written.",
    )
    concurrency: int = Field(
        default=8, ge=1, le=64, description="Listings of an environment at a time; besides, a quarter as many full ones."
    )
    start_policy: StartPolicy = Field(default=StartPolicy.RESUME, description="What becomes of what is there at the start.")
    start_from: datetime | None = Field(default=None, description="With start_policy from: RFC 3339 time with zone.")
    replay_id: str = Field(default="", max_length=64, description="With start_policy start_over: each new one replays once.")
    resume_policy: ResumePolicy = Field(default=ResumePolicy.REGISTRY, description="By what it knows what it has seen.")
    minimum_age_seconds: float = Field(default=0.0, ge=0, le=2_592_000, description="Blobs written less than this ago wait.")
    closing_timeout_minutes: float = Field(default=15.0, gt=0, le=525_600, description="Unwritten for so long: closed.")
    closing_enabled: bool = Field(default=True, description="Close blobs at all.")
    end_of_day_overlap_minutes: int = Field(default=60, ge=0, le=1440, description="Yesterday is scanned so long.")
    hours_back: int = Field(default=2, ge=1, le=48, description="Hourly layout: earlier hours listed until complete.")
    timezone: str = Field(default="UTC", description="IANA zone of the dates in names and of days_back.")
    date_range: DateRange = DateRange()
    events: EventSettings = EventSettings()
    discovery_seconds: float = Field(default=300.0, gt=0, description="Hourly layout: time between directory listings.")
    reconcile_seconds: float = Field(default=3600.0, gt=0, description="Time between two full listings.")
    listed_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="Listings that find nothing to announce are written to Ingestion.Blobs no more often than this, by scope.",
    )
    forget_days: int = Field(
        default=400,
        ge=1,
        le=36_500,
        description="State and checkpoints of blobs that are gone are kept so long after the last write.",
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"unknown time zone {value!r}; use an IANA name such as Europe/Amsterdam") from error
        return value

    @model_validator(mode="after")
    def _start_over_needs_a_name(self) -> Self:
        # Restarts and other monitors must mean the same replay.
        if self.start_policy is StartPolicy.START_OVER and not self.replay_id:
            raise ValueError("start_policy: start_over needs replay_id, any new name, for example 2026-05-incident")
        return self

    @model_validator(mode="after")
    def _from_needs_time(self) -> Self:
        if (self.start_policy is StartPolicy.FROM) != (self.start_from is not None):
            raise ValueError("start_policy: from and start_from go together")
        if self.start_from is not None and self.start_from.tzinfo is None:
            raise ValueError("start_from needs a time zone, for example 2026-05-01T00:00:00Z")
        if self.start_from is not None and not _FIRST_DAY <= self.start_from.date() <= _LAST_DAY:
            raise ValueError("start_from is beyond what the clock of storage can say")
        return self
