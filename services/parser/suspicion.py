"""Which blobs are more bad than good, as far as they have been read. Pure.

Only blobs of which something was bad are counted, from then on; the newest `WINDOW_RECORDS` of each weigh most. One blob alone
must not use up the limit on dead letters, which protects against what is wrong with all of them: of a blob whose bad share is
above the rule, only the first few dead letters count there. So that limit is reached when several blobs are rubbish and
little else comes, and never by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

WINDOW_RECORDS: Final = 10_000
MOST_COUNTED: Final = 20  # dead letters of a blob that count for the limit, once its share is above the rule
MOST_BLOBS: Final = 10_000

Source = tuple[str, str]
"""Blob and generation."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A blob is condemned if more than `share` of at least `records` are bad; with a share of 1 none is."""

    share: float
    records: int

    @property
    def in_force(self) -> bool:
        """Tell whether any blob can be condemned."""
        return self.share < 1


@dataclass(frozen=True, slots=True)
class Tally:
    """What was found in a blob since the first bad record: good ones, bad ones, and how many of these the limit knows."""

    good: int = 0
    bad: int = 0
    counted: int = 0

    @property
    def records(self) -> int:
        """Return how many there were."""
        return self.good + self.bad

    def plus(self, good: int, bad: int) -> Tally:
        """Return the tally with more records; it forgets half of what it knows when that is much."""
        halved = self.records >= WINDOW_RECORDS
        known = replace(self, good=self.good // 2, bad=self.bad // 2) if halved else self
        return replace(known, good=known.good + good, bad=known.bad + bad)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a look comes to: the blobs that are to be left alone from now on, and the dead letters that count for the limit."""

    condemned: Mapping[Source, Tally]
    counted: int


class Suspicion:
    """Counts by blob generation. What was looked at counts when it is committed, as what comes again is looked at again."""

    def __init__(self, rule: Threshold) -> None:
        self.rule = rule
        self._tallies: dict[Source, Tally] = {}
        self._draft: dict[Source, Tally] = {}

    def begin(self) -> None:
        """Forget what was looked at and not committed."""
        self._draft = dict(self._tallies)

    def committed(self) -> None:
        """Keep what was looked at since `begin`."""
        for source in list(self._draft)[:-MOST_BLOBS]:  # those that were looked at longest ago
            del self._draft[source]
        self._tallies = dict(self._draft)

    def knows(self, source: Source) -> bool:
        """Tell whether a blob is counted."""
        return source in self._draft

    def __bool__(self) -> bool:
        return bool(self._draft)

    def look(self, found: Mapping[Source, tuple[int, int]]) -> Judgement:
        """Count good and bad records of some blobs."""
        condemned: dict[Source, Tally] = {}
        counted = 0
        for source, (good, bad) in found.items():
            before = self._draft.pop(source, Tally())
            tally = before.plus(good, bad)
            if not tally.bad:
                continue
            above = self.rule.in_force and tally.bad > self.rule.share * tally.records
            count = min(bad, max(0, MOST_COUNTED - tally.counted)) if above else bad
            counted += count
            if above and tally.records >= self.rule.records:
                condemned[source] = tally
            else:
                self._draft[source] = replace(tally, counted=tally.counted + count)
        return Judgement(condemned, counted)
