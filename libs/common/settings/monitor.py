"""Settings of the monitor."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from libs.common.settings.base import Group
from libs.common.settings.time_zone import TimeZoneName


class StartPolicy(StrEnum):
    """What a monitor does with blobs that already exist when it starts."""

    RESUME = "resume"  # continue from the recorded state
    START_OVER = "start_over"  # announce everything again, to be read from the beginning
    START_FRESH = "start_fresh"  # existing content counts as read; only growth is announced
    FROM = "from"  # blobs last written before `start_from` count as read


class ResumePolicy(StrEnum):
    """How a monitor remembers the blobs it has seen."""

    REGISTRY = "registry"  # the compacted state topic, per blob
    TIMESTAMP = "timestamp"  # a single time: unknown blobs written before the last full listing are ignored


# Far enough from the limits of `date` that arithmetic with hours and time zones cannot overflow.
_FIRST_DAY, _LAST_DAY = date(1970, 1, 2), date(9998, 12, 31)


class DateRange(Group):
    """Days to list in layouts whose names carry a date. Each option adds days; without the first two, all days are listed."""

    specific_date: date | None = Field(
        default=None, ge=_FIRST_DAY, le=_LAST_DAY, description="Include this day in full listings."
    )
    days_back: int | None = Field(default=None, ge=0, le=3650, description="Include this many days before today.")
    monitor_current_day: bool = Field(default=True, description="Also list today, at every interval.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.specific_date is not None and self.days_back is not None:
            raise ValueError("give specific_date or days_back, not both")
        return self


class EventSettings(Group):
    """Settings of environments whose `events` name a queue."""

    listing_seconds: float = Field(
        default=600.0,
        gt=0,
        description="Seconds between listings of the current prefixes while the queue is readable; they catch missed events.",
    )
    poll_seconds: float = Field(default=0.5, gt=0, le=60, description="Seconds between polls of an empty queue.")
    visibility_seconds: int = Field(
        default=60, ge=1, le=3600, description="Seconds after which a message that was read but not handled reappears."
    )
    max_deliveries: int = Field(
        default=20, ge=1, le=10_000, description="Number of times a message may be read before it goes to Errors."
    )


class MonitorSettings(Group):
    """The blob monitor."""

    interval_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Seconds between listings of the prefixes where blobs grow. Default: 30, or 60 in the hourly layout, and "
        "five times as long where nothing is being written.",
    )
    concurrency: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Concurrent listings per environment; a quarter as many full listings run in addition.",
    )
    start_policy: StartPolicy = Field(default=StartPolicy.RESUME, description="How to treat blobs that exist at start-up.")
    start_from: datetime | None = Field(default=None, description="For start_policy from: RFC 3339 time with zone.")
    replay_id: str = Field(default="", max_length=64, description="For start_policy start_over: each new id replays once.")
    resume_policy: ResumePolicy = Field(
        default=ResumePolicy.REGISTRY, description="How the monitor remembers the blobs it has seen."
    )
    minimum_age_seconds: float = Field(
        default=0.0, ge=0, le=2_592_000, description="Seconds since the last write before a blob is announced."
    )
    closing_timeout_minutes: float = Field(
        default=15.0, gt=0, le=525_600, description="Minutes without a write after which a blob is closed."
    )
    closing_enabled: bool = Field(default=True, description="Whether blobs are ever closed.")
    end_of_day_overlap_minutes: int = Field(
        default=60, ge=0, le=1440, description="Dated layout: minutes past midnight during which yesterday is still listed."
    )
    hours_back: int = Field(
        default=2, ge=1, le=48, description="Hourly layout: how many previous hours are listed until they are complete."
    )
    timezone: TimeZoneName = Field(default="UTC", description="IANA time zone of days_back and of dates in blob names.")
    date_range: DateRange = DateRange()
    events: EventSettings = EventSettings()
    discovery_seconds: float = Field(default=300.0, gt=0, description="Hourly layout: seconds between directory listings.")
    reconcile_seconds: float = Field(default=3600.0, gt=0, description="Seconds between full listings.")
    listed_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="Minimum seconds, per scope, between reports in Ingestion.Blobs of listings with nothing to announce.",
    )
    forget_days: int = Field(
        default=400,
        ge=1,
        le=36_500,
        description="Days after the last write for which state and checkpoints of deleted blobs are kept.",
    )

    @model_validator(mode="after")
    def _start_over_needs_a_name(self) -> Self:
        # Restarts and other monitors must refer to the same replay.
        if self.start_policy is StartPolicy.START_OVER and not self.replay_id:
            raise ValueError("start_policy: start_over requires replay_id, any new name, for example 2026-05-incident")
        return self

    @model_validator(mode="after")
    def _from_needs_time(self) -> Self:
        if (self.start_policy is StartPolicy.FROM) != (self.start_from is not None):
            raise ValueError("start_policy: from and start_from must be used together")
        if self.start_from is not None and self.start_from.tzinfo is None:
            raise ValueError("start_from needs a time zone, for example 2026-05-01T00:00:00Z")
        if self.start_from is not None and not _FIRST_DAY <= self.start_from.date() <= _LAST_DAY:
            raise ValueError("start_from is outside the range of dates that storage supports")
        return self
