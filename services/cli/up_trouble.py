"""What `blobtide up` says of a program that does not get on: that it cannot run, what it waits for, since when nothing moves.

Idle is told from stuck by what waits: a program that has read all there is has no lag, and no line here. One that has records
before it, or is not ready, and commits and writes nothing for `STILL_SECONDS`, is stuck.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from services.cli.probe import Families, total
from services.cli.supervisor import Child

STILL_SECONDS: Final = 30.0
UNREADY_SECONDS: Final = 10.0  # a start, or partitions that move, take some
_LAG: Final = "blobtide_kafka_consumer_lag_records"
_MOVES: Final[tuple[tuple[str, dict[str, str]], ...]] = (
    ("blobtide_kafka_transactions_total", {"outcome": "committed"}),
    ("blobtide_sink_rows_total", {}),
)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a child has shown: its metrics (none: no answer) and why it is not ready (None: it is)."""

    child: Child
    families: Families
    reason: str | None


@dataclass(slots=True)
class _Known:
    """What is remembered of a child between two looks."""

    life: int = 0
    moves: float = 0.0
    unready_since: float | None = None
    still_since: float | None = None
    still_at: str = ""  # as a time of day


@dataclass(slots=True)
class Troubles:
    """Compares each look at a child with the one before."""

    clock: Callable[[], float] = time.monotonic
    _known: dict[str, _Known] = field(default_factory=dict)

    def line(self, look: Look) -> str | None:
        """Return what there is to say of a child now; None if it works or rests."""
        child, known = look.child, self._known.setdefault(look.child.program.name, _Known())
        if child.cannot_run:
            return said(child.program.name, "failed", f"{child.why}; see {child.program.log}")
        waiting = int(total(look.families, _LAG))
        self._remember(known, look, waiting)
        still = self._lasts(known.still_since, STILL_SECONDS)
        if look.reason is not None and self._lasts(known.unready_since, UNREADY_SECONDS):
            since = f"; nothing moves since {known.still_at}" if still else ""
            return said(child.program.name, "waiting", f"{look.reason}{since}; see {child.program.log}")
        if look.reason is None and still:
            what = f"nothing moves since {known.still_at}, and {waiting:,} records wait to be read; see {child.program.log}"
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
        """Tell whether the program has done something since the last look; that it was started again is no work done."""
        if not look.families:
            return False
        moves = sum(total(look.families, metric, labels) for metric, labels in _MOVES)
        before, known.moves = known.moves, moves
        is_same_life, known.life = known.life == look.child.restarts, look.child.restarts
        return moves > (before if is_same_life else 0)

    def _lasts(self, since: float | None, seconds: float) -> bool:
        return since is not None and self.clock() - since >= seconds


def said(name: str, state: str, what: str) -> str:
    """Return a line of the view about a program or server."""
    return f"{name:14} {state:9} {what}"
