"""The monitor's decision about one listed blob. Pure: the same blob, memory, rules and time give the same decision.

How long a blob has been unwritten, and how soon after a start it is seen, is measured by storage's clock where the listing
reports it: ours may be minutes off.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from libs.common.azure.storage.api import ListedBlob

# The size that a blob had at the moment of a start_fresh is unknown if it is being written: its content when first seen, this
# soon after the start, counts as read.
_SETTLING = timedelta(minutes=10)


@dataclass(slots=True)
class Known:
    """What is remembered of a blob. Replaced, never changed, except for `round`."""

    etag: str
    size: int
    modified: datetime
    first_seen: datetime
    closed: bool
    baseline: int | None = None  # bytes below count as read
    replay_id: str = ""
    round: int = 0  # the last full listing, in this process, that saw it


class AnnouncementKind(StrEnum):
    """Kinds of announcements about a blob, in this order."""

    REOPENED = "reopened"
    OBSERVED = "observed"
    CLOSED = "closed"


class Verdict(StrEnum):
    """The reason for announcing something or nothing; a bounded set for metrics."""

    UNCHANGED = "unchanged"
    OUTDATED = "outdated"  # the listing is older than what is known
    TOO_YOUNG = "too_young"  # below the minimum age
    TOO_OLD = "too_old"  # resume policy timestamp: written before the time to resume from
    COUNTED_AS_READ = "counted_as_read"  # start policies start_fresh and from
    LEFT = "left_to_full_listing"  # its hour or day is no longer completely in memory
    NEW = "new"
    CHANGED = "changed"
    REPLAYED = "replayed"
    QUIET = "quiet"  # unwritten for the closing timeout


@dataclass(frozen=True, slots=True)
class ScopeRules:
    """The rules of one scope, from the settings and the start."""

    closing_timeout: timedelta | None = None  # None: blobs are never closed
    minimum_age: timedelta = timedelta(0)
    replay_id: str = ""  # announce every blob once under this id
    # Both by storage's clock.
    read_before: datetime | None = None  # unknown blobs last written before count as read
    existing_at: datetime | None = None  # start_fresh: unknown blobs created before, seen soon after, count as read
    resume_after: datetime | None = None  # unknown blobs last written before are ignored


@dataclass(frozen=True, slots=True)
class Decision:
    """What to announce and what to remember; without `known`, memory is unchanged."""

    verdict: Verdict
    steps: tuple[AnnouncementKind, ...] = ()
    known: Known | None = None


def evaluate(blob: ListedBlob, known: Known | None, now: datetime, rules: ScopeRules) -> Decision:
    """Decide about `blob`, given what is `known` of it."""
    if known is None:
        return _first_sight(blob, now, rules)
    replay = rules.replay_id not in {"", known.replay_id}
    if blob.etag == known.etag and not replay:  # the common case, which needs no times
        if not known.closed and _is_quiet(blob, known.modified, now, rules):
            return Decision(Verdict.QUIET, (AnnouncementKind.CLOSED,), replace(known, closed=True))
        return Decision(Verdict.UNCHANGED)
    if blob.last_modified < known.modified:
        return Decision(Verdict.OUTDATED)
    return _changed(blob, known, now, rules, replay=replay)


def _changed(blob: ListedBlob, known: Known, now: datetime, rules: ScopeRules, *, replay: bool) -> Decision:
    if _is_too_young(blob, now, rules):
        return Decision(Verdict.TOO_YOUNG)
    quiet = _is_quiet(blob, blob.last_modified, now, rules)
    steps = _steps(reopened=known.closed and blob.etag != known.etag, closed=quiet)
    seen = replace(known, etag=blob.etag, size=blob.size, modified=blob.last_modified, closed=quiet)
    if replay:
        return Decision(Verdict.REPLAYED, steps, replace(seen, replay_id=rules.replay_id, baseline=None))
    return Decision(Verdict.CHANGED, steps, seen)


def _first_sight(blob: ListedBlob, now: datetime, rules: ScopeRules) -> Decision:
    def remember(*, closed: bool, baseline: int | None = None) -> Known:
        return Known(blob.etag, blob.size, blob.last_modified, now, closed, baseline, rules.replay_id)

    if rules.resume_after is not None and blob.last_modified < rules.resume_after:
        return Decision(Verdict.TOO_OLD)
    if _counts_as_read(blob, now, rules):
        # Closed until it grows: nothing waits for the end of content that is not read.
        return Decision(Verdict.COUNTED_AS_READ, (), remember(closed=True, baseline=blob.size))
    if _is_too_young(blob, now, rules):
        return Decision(Verdict.TOO_YOUNG)
    quiet = _is_quiet(blob, blob.last_modified, now, rules)
    return Decision(Verdict.NEW, _steps(reopened=False, closed=quiet), remember(closed=quiet))


def _counts_as_read(blob: ListedBlob, now: datetime, rules: ScopeRules) -> bool:
    if rules.read_before is not None and blob.last_modified < rules.read_before:
        return True
    start, created = rules.existing_at, blob.creation_time
    return start is not None and created is not None and created < start and (blob.as_of or now) < start + _SETTLING


def _is_too_young(blob: ListedBlob, now: datetime, rules: ScopeRules) -> bool:
    # Without a minimum, every blob is old enough, even one that seems to come from the future.
    return bool(rules.minimum_age) and (blob.as_of or now) - blob.last_modified < rules.minimum_age


def _is_quiet(blob: ListedBlob, modified: datetime, now: datetime, rules: ScopeRules) -> bool:
    return rules.closing_timeout is not None and (blob.as_of or now) - modified >= rules.closing_timeout


def _steps(*, reopened: bool, closed: bool) -> tuple[AnnouncementKind, ...]:
    said = {AnnouncementKind.REOPENED: reopened, AnnouncementKind.OBSERVED: True, AnnouncementKind.CLOSED: closed}
    return tuple(step for step, is_said in said.items() if is_said)
