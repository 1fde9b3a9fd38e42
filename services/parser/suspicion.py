"""Judge which blobs are mostly bad, as far as they have been read. Pure.

A blob is counted from its first bad record on; the newest `WINDOW_RECORDS` weigh most. A single blob must not use up the limit
on dead letters, which guards against problems that affect all of them: if a blob's bad share is above the threshold, only its
first few dead letters count for that limit. So the limit is reached when several blobs are garbage and little else arrives, but
never by one blob.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

WINDOW_RECORDS: Final = 10_000
MOST_COUNTED: Final = 20  # dead letters of a blob that count for the limit once its share is above the threshold
MOST_BLOBS: Final = 10_000

Source = tuple[str, str]
"""Blob and generation."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Condemns a blob if more than `share` of at least `records` are bad; with a share of 1, none is condemned."""

    share: float
    records: int

    @property
    def in_force(self) -> bool:
        """Whether blobs can be condemned at all."""
        return self.share < 1


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts for a blob since its first bad record: good, bad, and the bad ones counted for the limit."""

    good: int = 0
    bad: int = 0
    counted: int = 0

    @property
    def records(self) -> int:
        """Total number of records."""
        return self.good + self.bad

    def plus(self, good: int, bad: int) -> Tally:
        """Return the tally with more records; once it is large, it is halved first."""
        halved = self.records >= WINDOW_RECORDS
        known = replace(self, good=self.good // 2, bad=self.bad // 2) if halved else self
        return replace(known, good=known.good + good, bad=known.bad + bad)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of a look: the blobs to quarantine, and the number of dead letters that count for the limit."""

    condemned: Mapping[Source, Tally]
    counted: int


class Suspicion:
    """Counts by blob generation. Counts take effect when committed, because repeated work is counted again."""

    def __init__(self, rule: Threshold) -> None:
        self.rule = rule
        self._tallies: dict[Source, Tally] = {}
        self._draft: dict[Source, Tally] = {}

    def begin(self) -> None:
        """Forget uncommitted counts."""
        self._draft = dict(self._tallies)

    def committed(self) -> None:
        """Keep the counts since `begin`."""
        for source in list(self._draft)[:-MOST_BLOBS]:  # least recently counted
            del self._draft[source]
        self._tallies = dict(self._draft)

    def knows(self, source: Source) -> bool:
        """Return whether a blob is being counted."""
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
