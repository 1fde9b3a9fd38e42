"""Start and resume policies, as rules per scope. What a policy needs to remember is in the state topic."""

from __future__ import annotations

from datetime import datetime, timedelta

from libs.common.settings.monitor import MonitorSettings, ResumePolicy, StartPolicy
from services.blob_monitor.evaluate import ScopeRules
from services.blob_monitor.memory import Memory
from services.blob_monitor.sources import Scope, Territory

# Allows for clock differences and the duration of a listing.
_RESUME_OVERLAP = timedelta(hours=1)


class RuleBook:
    """Provides the rules of every scope, which stay the same while the scope is owned."""

    def __init__(self, settings: MonitorSettings, memory: Memory) -> None:
        self._settings = settings
        self._memory = memory
        self._replay_id = settings.replay_id if settings.start_policy is StartPolicy.START_OVER else ""
        self._rules: dict[str, ScopeRules] = {}

    def forget(self) -> None:
        """Discard all rules, to derive them anew from memory."""
        self._rules.clear()

    def awaits_first_look(self, territory: Territory) -> bool:
        """Return whether the first look at `territory`, which start_fresh needs, is still to be recorded."""
        return self._settings.start_policy is StartPolicy.START_FRESH and self._memory.first_look(territory.key) is None

    def rules(self, scope: Scope) -> ScopeRules:
        """Return the rules of `scope`."""
        rules = self._rules.get(scope.key)
        if rules is None:
            rules = self._rules[scope.key] = self._make(scope)
        return rules

    def _make(self, scope: Scope) -> ScopeRules:
        settings = self._settings
        fresh = settings.start_policy is StartPolicy.START_FRESH
        first_look = self._memory.first_look(scope.territory.key) if fresh else None
        return ScopeRules(
            closing_timeout=timedelta(minutes=settings.closing_timeout_minutes) if settings.closing_enabled else None,
            minimum_age=timedelta(seconds=settings.minimum_age_seconds),
            replay_id=self._replay_id,
            read_before=settings.start_from or first_look,
            existing_at=first_look,
            resume_after=self._resume_after(scope),
        )

    def _resume_after(self, scope: Scope) -> datetime | None:
        """Return the time before which blobs are too old; None without a full listing, since newer blobs are found first."""
        if self._settings.resume_policy is not ResumePolicy.TIMESTAMP:
            return None
        seen = self._memory.complete_until(scope)
        # Blobs that were too young then have not been announced.
        return seen and seen - _RESUME_OVERLAP - timedelta(seconds=self._settings.minimum_age_seconds)
