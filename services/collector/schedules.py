"""Requests by the clock: each schedule has periods, and one request for each, whose id says which one.

The collector that owns the partition of the id writes the request, unless it knows the id: so each period has one request,
however many collectors there are, and whoever takes over continues. Of periods that have passed while none was running, only
the current one has a request, if it is not too late for it: an id is never older than what is remembered of ids. Pure, apart
from asking once how many partitions there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import Final

import msgspec

from libs.common.cron import CronTimes
from libs.common.errors import ConfigError
from libs.common.kafka.records import Outbound
from libs.common.messages.blobs import partition_of
from libs.common.settings.collector import CollectionSchedule
from services.collector.requests.items import check_calls
from services.collector.requests.schema import CollectionRequest, RequestRefused, write_request
from services.collector.requests.templates import calls_of

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SchedulePeriod:
    """One period of a schedule: when it begins, and when its request is written."""

    begin: datetime
    fires: datetime


@dataclass(frozen=True, slots=True)
class RequestView:
    """What a collector knows: whether a partition is its own, and whether a request in it is known."""

    is_own: Callable[[int], bool]
    is_known: Callable[[int, bytes], bool]


class CollectionSchedules:
    """The schedules of the settings.

    Args:
        partitions: asks how many partitions the topic of requests has.

    Raises:
        ConfigError: if a schedule asks for calls that cannot be made.
    """

    def __init__(self, schedules: tuple[CollectionSchedule, ...], topic: str, partitions: Callable[[], int]) -> None:
        self._requests = {schedule: _request(schedule) for schedule in schedules}
        self._clocks = {schedule.name: clock_of(schedule) for schedule in schedules}
        self._topic = topic
        self._ask = partitions
        self._partitions: int | None = None
        self._written: dict[str, bytes] = {}  # by schedule, the latest
        self._unsettled: dict[str, bytes] = {}

    def due(self, now: datetime, standing: RequestView) -> list[Outbound]:
        """Return the requests that must be written now; call `settle` when that has been tried. Raises as `partitions` does."""
        return list(self._due(now, standing))

    def settle(self, *, committed: bool) -> None:
        """Say whether what was due is written; otherwise it is due again."""
        if committed:
            self._written |= self._unsettled
        self._unsettled = {}

    def forget_partitions(self) -> None:
        """Ask anew how many partitions there are, which may have become more."""
        self._partitions = None

    def _due(self, now: datetime, standing: RequestView) -> Iterator[Outbound]:
        for schedule, request in self._requests.items():
            period = self._clocks[schedule.name](now)
            own = f"{schedule.name}:{period.begin:%Y-%m-%dT%H:%M:%SZ}"
            key = own.encode()
            is_time = period.fires <= now <= period.fires + timedelta(minutes=schedule.late_minutes)
            if not is_time or key in {self._written.get(schedule.name), self._unsettled.get(schedule.name)}:
                continue
            partition = partition_of(key, self._count())
            if standing.is_own(partition) and not standing.is_known(partition, key):
                self._unsettled[schedule.name] = key
                dated = msgspec.structs.replace(request, message_id=own, timestamp=period.begin)
                yield Outbound(self._topic, write_request(dated), key)

    def _count(self) -> int:
        if self._partitions is None:
            self._partitions = self._ask()
        return self._partitions


def clock_of(schedule: CollectionSchedule) -> Callable[[datetime], SchedulePeriod]:
    """Return the function that tells in which period a time is."""
    return partial(_of_interval, schedule) if schedule.cron is None else partial(_of_cron, schedule, schedule.cron_times())


def _of_interval(schedule: CollectionSchedule, now: datetime) -> SchedulePeriod:
    every, offset = timedelta(minutes=schedule.every_minutes), timedelta(minutes=schedule.offset_minutes)
    begin = _EPOCH + (now - _EPOCH - offset) // every * every + offset
    return SchedulePeriod(begin, begin + _share(schedule, begin) * timedelta(minutes=schedule.jitter_minutes))


def _of_cron(schedule: CollectionSchedule, times: CronTimes, now: datetime) -> SchedulePeriod:
    match = times.at(now)
    jitter = min(timedelta(minutes=schedule.jitter_minutes), match.following - match.latest)
    return SchedulePeriod(match.latest, match.latest + _share(schedule, match.latest) * jitter)


def _share(schedule: CollectionSchedule, begin: datetime) -> float:
    """Return which part of the jitter a period has: less than 1, and the same for whoever computes it."""
    digest = blake2b(f"{schedule.name} {begin.isoformat()}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _request(schedule: CollectionSchedule) -> CollectionRequest:
    try:
        calls = calls_of(schedule.templates, schedule.subscriptions, schedule.parameters)
        request = CollectionRequest(message_id=schedule.name, api_requests=calls, priority=schedule.priority)
        check_calls(request)
    except RequestRefused as error:
        raise ConfigError(f"collector.schedules: {schedule.name}: {error}") from error
    return request
