"""What `blobtide up` reports of a program in trouble: that it cannot run, what it is waiting for, or since when it is stuck.

Lag distinguishes idle from stuck: a program that has read everything has no lag, and no line here. One that has records to
read, or is not ready, and commits and writes nothing for `STILL_SECONDS` is stuck.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from services.cli.probe import Families, total
from services.cli.up.supervisor import Child

STILL_SECONDS: Final = 30.0
UNREADY_SECONDS: Final = 10.0  # allows for a start-up or a rebalance
_LAG: Final = "blobtide_kafka_consumer_lag_records"
_MOVES: Final[tuple[tuple[str, dict[str, str]], ...]] = (
    ("blobtide_kafka_transactions_total", {"outcome": "committed"}),
    ("blobtide_sink_rows_total", {}),
)


@dataclass(frozen=True, slots=True)
class Look:
    """Observation of a child: its metrics (empty: no response) and why it is not ready (None: it is)."""

    child: Child
    families: Families
    reason: str | None


@dataclass(slots=True)
class _Known:
    """State of a child between observations."""

    life: int = 0
    moves: float = 0.0
    unready_since: float | None = None
    still_since: float | None = None
    still_at: str = ""  # as a time of day


@dataclass(slots=True)
class Troubles:
    """Compares each observation of a child with the previous one."""

    clock: Callable[[], float] = time.monotonic
    _known: dict[str, _Known] = field(default_factory=dict)

    def line(self, look: Look) -> str | None:
        """Return the line to show about a child; None if it is working or idle."""
        child, known = look.child, self._known.setdefault(look.child.program.name, _Known())
        if child.cannot_run:
            return said(child.program.name, "failed", f"{child.refusal or child.why}; see {child.program.log}")
        waiting = int(total(look.families, _LAG))
        self._remember(known, look, waiting)
        still = self._lasts(known.still_since, STILL_SECONDS)
        if look.reason is not None and self._lasts(known.unready_since, UNREADY_SECONDS):
            since = f"; no progress since {known.still_at}" if still else ""
            return said(child.program.name, "waiting", f"{look.reason}{since}; see {child.program.log}")
        if look.reason is None and still:
            what = f"no progress since {known.still_at}, with {waiting:,} records waiting; see {child.program.log}"
            return said(child.program.name, "stuck", what)
        return None

    def _remember(self, known: _Known, look: Look, waiting: int) -> None:
        now = self.clock()
        is_unready = look.reason is not None
        known.unready_since = (known.unready_since or now) if is_unready else None
        if self._has_moved(known, look) or not (is_unready or waiting):
            known.still_since = None
        elif known.still_since is None:
            known.still_since, known.still_at = now, time.strftime("%H:%M:%S")

    @staticmethod
    def _has_moved(known: _Known, look: Look) -> bool:
        """Return whether the program has made progress since the last observation; a restart is not progress."""
        if not look.families:
            return False
        moves = sum(total(look.families, metric, labels) for metric, labels in _MOVES)
        before, known.moves = known.moves, moves
        is_same_life, known.life = known.life == look.child.restarts, look.child.restarts
        return moves > (before if is_same_life else 0)

    def _lasts(self, since: float | None, seconds: float) -> bool:
        return since is not None and self.clock() - since >= seconds


def said(name: str, state: str, what: str) -> str:
    """Format a line of the view about a program or server."""
    return f"{name:14} {state:9} {what}"
