"""Input that lasts until the time is up, however fast a process is: written round by round, a few rounds ahead."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

AHEAD: Final = 3
"""Rounds waiting for the process, so that its input does not run dry while the next one is being written."""

_LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Feed:
    """The input of one process.

    Attributes:
        write: writes the round with this number and returns when it is stored.
        waiting: counts the records that the process has not handled yet; None if that is unknown just now.
        records: the number of records in a round.
    """

    write: Callable[[int], None]
    waiting: Callable[[], int | None]
    records: int

    def prepare(self) -> None:
        """Write the rounds that are waiting when the process starts."""
        for number in range(AHEAD):
            self.write(number)

    def keep_up(
        self,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        number: int = AHEAD,
    ) -> int:
        """Keep writing rounds in time, from this number on and for the given time; return how many there are in total."""
        began = clock()
        while clock() - began < seconds:
            waiting = self.waiting()
            if waiting is not None and waiting < AHEAD * self.records:
                self.write(number)
                number += 1
            else:
                sleep(_LOOK_SECONDS)
        return number
