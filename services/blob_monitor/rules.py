"""Start and resume policies, as rules for one scope. What a policy needs to remember is in the state topic."""

from __future__ import annotations

from datetime import datetime, timedelta

from libs.common.settings.monitor import MonitorSettings, ResumePolicy, StartPolicy
from services.blob_monitor.evaluate import Rules
from services.blob_monitor.memory import Memory
from services.blob_monitor.sources import Scope, Territory

# Clocks differ, and a listing takes its time.
_RESUME_OVERLAP = timedelta(hours=1)


class RuleBook:
    """Gives every scope its rules; they stay the same while the scope is owned."""

    def __init__(self, settings: MonitorSettings, memory: Memory) -> None:
        self._settings = settings
        self._memory = memory
        self._replay_id = settings.replay_id if settings.start_policy is StartPolicy.START_OVER else ""
        self._rules: dict[str, Rules] = {}

    def forget(self) -> None:
        """Make rules anew, from what is remembered by then."""
        self._rules.clear()

    def awaits_first_look(self, territory: Territory) -> bool:
        """Tell whether nobody has noted yet since when `territory` is looked at, which start_fresh needs to know."""
        return self._settings.start_policy is StartPolicy.START_FRESH and self._memory.first_look(territory.key) is None

    def rules(self, scope: Scope) -> Rules:
        """Return the rules of `scope`."""
        rules = self._rules.get(scope.key)
        if rules is None:
            rules = self._rules[scope.key] = self._make(scope)
        return rules

    def _make(self, scope: Scope) -> Rules:
        settings = self._settings
        fresh = settings.start_policy is StartPolicy.START_FRESH
        first_look = self._memory.first_look(scope.territory.key) if fresh else None
        return Rules(
            closing_timeout=timedelta(minutes=settings.closing_timeout_minutes) if settings.closing_enabled else None,
            minimum_age=timedelta(seconds=settings.minimum_age_seconds),
            replay_id=self._replay_id,
            read_before=settings.start_from or first_look,
            existing_at=first_look,
            resume_after=self._resume_after(scope),
        )

    def _resume_after(self, scope: Scope) -> datetime | None:
        """Without a full listing nothing is too old: newer blobs are found first and say nothing about older ones."""
        if self._settings.resume_policy is not ResumePolicy.TIMESTAMP:
            return None
        seen = self._memory.complete_until(scope)
        # What was too young then has not been announced.
        return seen and seen - _RESUME_OVERLAP - timedelta(seconds=self._settings.minimum_age_seconds)
