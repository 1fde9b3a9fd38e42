"""What an estate consists of: how many network interfaces, which kinds of logs, how busy, from when, for how long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from libs.common.errors import ConfigError

MINUTES_PER_HOUR: Final = 60
_MAX_NICS: Final = 100_000
_MAX_TUPLES: Final = 100_000


class LogKind(StrEnum):
    """The kind of flow log of a network interface."""

    VNET = "vnet"  # virtual network flow log, version 4
    NSG2 = "nsg2"  # network security group flow log, version 2
    NSG1 = "nsg1"  # the same, version 1


class Style(StrEnum):
    """How the JSON of a blob is formatted."""

    COMPACT = "compact"  # head 12 bytes, tail 2, as today
    PRETTY = "pretty"  # indented, head 21 bytes, tail 9, as in earlier years


@dataclass(frozen=True, slots=True)
class EstateSpec:
    """Everything that determines the bytes. Interfaces take the kinds in turn; minute numbers refer to wall-clock time."""

    seed: int = 1
    nics: int = 20
    tuples_per_minute: float = 60.0  # per interface, on average
    kinds: tuple[LogKind, ...] = (LogKind.VNET, LogKind.NSG2, LogKind.NSG1)
    start: datetime = datetime(2026, 5, 1, 12, tzinfo=UTC)  # truncated to the minute
    minutes: int | None = MINUTES_PER_HOUR  # None: endless
    upgrade_after: int | None = None  # minutes after `start` at which version 1 logs become version 2, in mid-blob
    style: Style = Style.COMPACT
    account: str = "demo.local"  # account alias in blob ids

    def __post_init__(self) -> None:
        """Refuse an estate that cannot be generated.

        Raises:
            ConfigError: if a value is out of bounds; the message names it and its bounds.
        """
        within("nics", self.nics, 1, _MAX_NICS)
        within("tuples_per_minute", self.tuples_per_minute, 1, _MAX_TUPLES)
        within("seed", self.seed, 0, 2**63 - 1)
        if self.minutes is not None:
            within("minutes", self.minutes, 1, 10 * 366 * 24 * MINUTES_PER_HOUR)
        if not self.kinds:
            raise ConfigError("demo: kinds is empty; give vnet, nsg2 or nsg1")
        if self.start.tzinfo is None:
            raise ConfigError("demo: start has no time zone; use the form 2026-05-01T12:00:00Z")

    @property
    def first_minute(self) -> int:
        """Number of the first minute, counted from 1970-01-01T00:00Z."""
        return int(self.start.timestamp()) // 60


def within(name: str, value: float, low: float, high: float) -> None:
    """Raise ConfigError if a value of a spec is out of bounds."""
    if not low <= value <= high:
        raise ConfigError(f"demo: {name} is {value}; it must be between {low} and {high}")
