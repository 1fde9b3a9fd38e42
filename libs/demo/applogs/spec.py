"""What application logs are generated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from libs.common.errors import ConfigError
from libs.demo.spec import MINUTES_PER_HOUR, within

_MOST_PODS: Final = 10_000
_MOST_LINES: Final = 100_000


@dataclass(frozen=True, slots=True)
class LogSpec:
    """Everything that determines the text. Pods take the services in turn; minute numbers refer to wall-clock time."""

    seed: int = 1
    pods: int = 16
    lines_per_minute: float = 30.0  # per pod, on average
    start: datetime = datetime(2026, 5, 1, 12, tzinfo=UTC)  # truncated to the minute
    minutes: int | None = MINUTES_PER_HOUR  # None: endless
    account: str = "demo.local"  # account alias in blob ids
    container: str = "commerce-logs-separated"

    def __post_init__(self) -> None:
        """Refuse what cannot be generated.

        Raises:
            ConfigError: if a value is out of bounds; the message names it and its bounds.
        """
        within("pods", self.pods, 1, _MOST_PODS)
        within("lines_per_minute", self.lines_per_minute, 1, _MOST_LINES)
        within("seed", self.seed, 0, 2**63 - 1)
        if self.minutes is not None:
            within("minutes", self.minutes, 1, 10 * 366 * 24 * MINUTES_PER_HOUR)
        if self.start.tzinfo is None:
            raise ConfigError("demo: start has no time zone; use the form 2026-05-01T12:00:00Z")

    @property
    def first_minute(self) -> int:
        """Number of the first minute, counted from 1970-01-01T00:00Z."""
        return int(self.start.timestamp()) // 60
