"""How fast Azure Resource Manager may be asked: token buckets a subscription, region and kind of call, which adapt to answers.

Azure counts in buckets as well ("request limits and throttling" in its documentation): 250 reads at once and 25 more a second,
for each subscription, principal and region of Azure Resource Manager. Which region that is, only answers tell. A bucket follows
what answers say is left. After a 429 it pauses, and fills at half its rate, which recovers with every success.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MOST_BUCKETS: Final = 2_000  # names of subscriptions come from requests
LONGEST_PAUSE: Final = 3_600.0
_LEAST_SHARE: Final = 1 / 32
_RECOVERY: Final = 1 / 100  # of the full rate, for each success
_JITTER: Final = 0.1
_REGION: Final = re.compile(r"([A-Za-z0-9 ]{1,40}):")
_RESETS: Final = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})(?:\.\d+)?")


class Quota(StrEnum):
    """Kinds of calls that are counted apart."""

    READS = "reads"
    WRITES = "writes"
    DELETES = "deletes"
    GRAPH = "graph"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose quota a call uses. `subscription` is empty for the tenant's."""

    subscription: str
    quota: Quota


@dataclass(frozen=True, slots=True)
class _Limit:
    burst: float
    rate: float  # per second


_LIMITS: Final = {
    Quota.READS: _Limit(250, 25),
    Quota.WRITES: _Limit(200, 10),
    Quota.DELETES: _Limit(200, 10),
    Quota.GRAPH: _Limit(15, 3),
}


class TokenBucket:
    """Tokens that calls take. Not thread-safe; times in seconds."""

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self._burst = burst
        self._full_rate = rate
        self._rate = rate
        self._tokens = burst
        self._at = now
        self._closed_until = now

    def reserve(self, now: float) -> float:
        """Take a token; return in how many seconds it may be used."""
        self._fill(now)
        self._tokens -= 1
        return max(0.0, self._closed_until - now, -self._tokens / self._rate)

    def give_back(self) -> None:
        """Return a token that is not used."""
        self._tokens = min(self._burst, self._tokens + 1)

    def succeeded(self, left: float | None) -> None:
        """Recover from refusals; if Azure says how many calls are left, believe it."""
        self._rate = min(self._full_rate, self._rate + self._full_rate * _RECOVERY)
        if left is not None:
            self._tokens = min(self._tokens, left)

    def refused(self, now: float, after: float) -> None:
        """Pause for `after` seconds, a little longer, and be slower from then on."""
        self._fill(now)
        self._tokens = min(self._tokens, 0.0)
        self._rate = max(self._full_rate * _LEAST_SHARE, self._rate / 2)
        self.pause(now, after * random.uniform(1.0, 1.0 + _JITTER))  # noqa: S311 - spreads load, keeps no secret

    def pause(self, now: float, seconds: float) -> None:
        """Let no token be used for some time."""
        self._closed_until = max(self._closed_until, now + min(seconds, LONGEST_PAUSE))

    def _fill(self, now: float) -> None:
        # Nothing is filled during a pause.
        begun = max(self._at, min(self._closed_until, now))
        self._tokens = min(self._burst, self._tokens + max(0.0, now - begun) * self._rate)
        self._at = now


class Buckets:
    """The buckets of one principal. Thread-safe; the least recently used are forgotten."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._regions: OrderedDict[str, str] = OrderedDict()  # by subscription; where its last answer came from
        self._buckets: OrderedDict[tuple[Subject, str], TokenBucket] = OrderedDict()

    def reserve(self, subject: Subject, patience: float) -> float:
        """Take a token; return in how many seconds it may be used. If that exceeds `patience`, none was taken."""
        with self._lock:
            bucket = self._bucket(subject)
            seconds = bucket.reserve(self._clock())
            if seconds > patience:
                bucket.give_back()
            return seconds

    def answered(self, subject: Subject, headers: Mapping[str, str]) -> None:
        """Learn from an answer that was no refusal."""
        with self._lock:
            self._locate(subject, headers)
            bucket = self._bucket(subject)
            left = _left(subject, headers)
            bucket.succeeded(left)
            if subject.quota is Quota.GRAPH and left == 0:
                bucket.pause(self._clock(), _resets_after(headers))

    def throttled(self, subject: Subject, headers: Mapping[str, str], after: float) -> None:
        """Learn from a refusal that asks for a pause."""
        with self._lock:
            self._locate(subject, headers)
            self._bucket(subject).refused(self._clock(), after)

    def __len__(self) -> int:
        return len(self._buckets)

    def _bucket(self, subject: Subject) -> TokenBucket:
        key = (subject, self._regions.get(subject.subscription, ""))
        bucket = self._buckets.pop(key, None) or self._buckets.pop((subject, ""), None)  # whose region is known by now
        if bucket is None:
            limit = _LIMITS[subject.quota]
            bucket = TokenBucket(limit.burst, limit.rate, self._clock())
        self._buckets[key] = bucket
        if len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return bucket

    def _locate(self, subject: Subject, headers: Mapping[str, str]) -> None:
        found = _REGION.match(headers.get("x-ms-routing-request-id", ""))
        if found:
            self._regions[subject.subscription] = found[1].lower()
            self._regions.move_to_end(subject.subscription)
            if len(self._regions) > MOST_BUCKETS:
                self._regions.popitem(last=False)


def _left(subject: Subject, headers: Mapping[str, str]) -> float | None:
    """Return how many calls Azure says are left, if it does."""
    if subject.quota is Quota.GRAPH:
        name = "x-ms-user-quota-remaining"
    else:
        name = f"x-ms-ratelimit-remaining-{'subscription' if subject.subscription else 'tenant'}-{subject.quota}"
    text = headers.get(name, "")
    return float(text) if text.isascii() and text.isdigit() else None


def _resets_after(headers: Mapping[str, str]) -> float:
    found = _RESETS.fullmatch(headers.get("x-ms-user-quota-resets-after", ""))
    return float(int(found[1]) * 3_600 + int(found[2]) * 60 + int(found[3])) if found else 1.0
