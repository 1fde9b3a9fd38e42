"""The decision about one listed blob."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from libs.common.azure.storage.api import BlobInfo
from services.blob_monitor.evaluate import AnnouncementKind, Known, ScopeRules, Verdict, evaluate

T0 = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BLOB = BlobInfo("n", "e2", 20, "BlockBlob", T0, T0 - 30 * MINUTE)
SAME = Known("e2", 20, T0, T0, closed=False)
OLDER = Known("e1", 10, T0 - MINUTE, T0 - MINUTE, closed=False)
RULES = ScopeRules(closing_timeout=15 * MINUTE)
NEVER = ScopeRules()
SOON, LATE = T0 + MINUTE, T0 + 15 * MINUTE
SEEN, GONE_QUIET, BACK = (
    (AnnouncementKind.OBSERVED,),
    (AnnouncementKind.OBSERVED, AnnouncementKind.CLOSED),
    (AnnouncementKind.REOPENED, AnnouncementKind.OBSERVED),
)


@pytest.mark.parametrize(
    ("known", "now", "rules", "verdict", "steps"),
    [
        # new
        (None, SOON, RULES, Verdict.NEW, SEEN),
        (None, LATE, RULES, Verdict.NEW, GONE_QUIET),
        (None, LATE, NEVER, Verdict.NEW, SEEN),
        (None, SOON, replace(RULES, minimum_age=2 * MINUTE), Verdict.TOO_YOUNG, ()),
        (None, SOON, replace(RULES, minimum_age=MINUTE), Verdict.NEW, SEEN),
        # known
        (SAME, SOON, RULES, Verdict.UNCHANGED, ()),
        (SAME, LATE - timedelta(seconds=1), RULES, Verdict.UNCHANGED, ()),
        (SAME, LATE, RULES, Verdict.QUIET, (AnnouncementKind.CLOSED,)),
        (SAME, LATE, NEVER, Verdict.UNCHANGED, ()),
        (replace(SAME, closed=True), LATE, RULES, Verdict.UNCHANGED, ()),
        (replace(OLDER, modified=T0 + MINUTE), SOON, RULES, Verdict.OUTDATED, ()),
        # changed
        (OLDER, SOON, RULES, Verdict.CHANGED, SEEN),
        (OLDER, LATE, RULES, Verdict.CHANGED, GONE_QUIET),
        (OLDER, SOON, replace(RULES, minimum_age=2 * MINUTE), Verdict.TOO_YOUNG, ()),
        (replace(OLDER, closed=True), SOON, RULES, Verdict.CHANGED, BACK),
        (replace(OLDER, closed=True), LATE, RULES, Verdict.CHANGED, (*BACK, AnnouncementKind.CLOSED)),
        # start_over
        (SAME, SOON, replace(RULES, replay_id="r"), Verdict.REPLAYED, SEEN),
        (replace(SAME, replay_id="r"), SOON, replace(RULES, replay_id="r"), Verdict.UNCHANGED, ()),
        (replace(SAME, closed=True), LATE, replace(RULES, replay_id="r"), Verdict.REPLAYED, GONE_QUIET),
        (replace(SAME, replay_id="r"), SOON, RULES, Verdict.UNCHANGED, ()),
        # from
        (None, SOON, replace(RULES, read_before=T0 + MINUTE), Verdict.COUNTED_AS_READ, ()),
        (None, SOON, replace(RULES, read_before=T0), Verdict.NEW, SEEN),
        (OLDER, SOON, replace(RULES, read_before=T0 + MINUTE), Verdict.CHANGED, SEEN),
        # start_fresh: it was there, and is still being written when it is first seen
        (None, SOON, replace(RULES, existing_at=T0 - MINUTE), Verdict.COUNTED_AS_READ, ()),
        (None, T0 + 20 * MINUTE, replace(NEVER, existing_at=T0 - MINUTE), Verdict.NEW, SEEN),
        (None, SOON, replace(RULES, existing_at=T0 - 40 * MINUTE), Verdict.NEW, SEEN),
        # resume policy timestamp
        (None, SOON, replace(RULES, resume_after=T0 + MINUTE), Verdict.TOO_OLD, ()),
        (None, SOON, replace(RULES, resume_after=T0), Verdict.NEW, SEEN),
        (OLDER, SOON, replace(RULES, resume_after=T0 + MINUTE), Verdict.CHANGED, SEEN),
    ],
)
def test_what_is_announced(
    known: Known | None, now: datetime, rules: ScopeRules, verdict: Verdict, steps: tuple[AnnouncementKind, ...]
) -> None:
    """Announcements follow from blob, memory, time and rules alone, and the same again announces nothing."""
    decision = evaluate(BLOB, known, now, rules)
    assert (decision.verdict, decision.steps) == (verdict, steps)
    assert (decision.known is not None) == (bool(steps) or verdict is Verdict.COUNTED_AS_READ)
    if decision.known is not None:
        assert evaluate(BLOB, decision.known, now, rules).known is None


@pytest.mark.parametrize("off", [-90 * MINUTE, -2 * MINUTE, 0 * MINUTE, 20 * MINUTE])
def test_how_long_a_blob_is_unwritten_is_told_by_the_clock_of_storage(off: timedelta) -> None:
    """However wrong our clock is, a blob that is being written is announced and stays open, and a quiet one is closed."""
    growing, quiet = replace(BLOB, as_of=SOON), replace(BLOB, as_of=LATE)
    young = replace(RULES, minimum_age=2 * MINUTE)
    for known in (None, OLDER):
        assert evaluate(growing, known, SOON + off, RULES).steps == SEEN
        assert evaluate(quiet, known, LATE + off, RULES).steps == GONE_QUIET
        assert evaluate(growing, known, SOON + off, young).verdict is Verdict.TOO_YOUNG
        assert evaluate(quiet, known, LATE + off, young).steps == GONE_QUIET


def test_how_soon_after_a_start_a_blob_is_seen_is_told_by_the_clock_of_storage() -> None:
    """However wrong our clock is, what is seen soon after a start_fresh counts as read, and what is seen later does not."""
    fresh = replace(NEVER, existing_at=T0 - MINUTE)
    for off in (-90 * MINUTE, 90 * MINUTE):
        assert evaluate(replace(BLOB, as_of=SOON), None, SOON + off, fresh).verdict is Verdict.COUNTED_AS_READ
        assert evaluate(replace(BLOB, as_of=T0 + 20 * MINUTE), None, T0 + off, fresh).verdict is Verdict.NEW


@pytest.mark.parametrize("known", [None, OLDER])
def test_without_a_minimum_age_no_blob_is_too_young(known: Known | None) -> None:
    """Where storage does not tell its time, a blob written in our future is announced all the same."""
    assert evaluate(BLOB, known, T0 - 2 * MINUTE, RULES).steps == SEEN


def test_what_counts_as_read_stays_read_when_it_grows() -> None:
    """The size at first sight is the baseline of every later announcement, until a replay asks for everything."""
    registered = evaluate(BLOB, None, SOON, replace(RULES, read_before=LATE)).known
    assert registered is not None
    assert (registered.baseline, registered.closed) == (20, True)
    grown = replace(BLOB, etag="e3", size=30, last_modified=SOON)
    decision = evaluate(grown, registered, SOON, RULES)
    assert decision.steps == BACK
    assert decision.known is not None
    assert (decision.known.baseline, decision.known.size) == (20, 30)
    replayed = evaluate(grown, decision.known, SOON, replace(RULES, replay_id="r")).known
    assert replayed is not None
    assert (replayed.baseline, replayed.replay_id) == (None, "r")
