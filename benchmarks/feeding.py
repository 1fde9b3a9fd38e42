"""Input that does not end before the time is over, however fast a process is: written round by round, a few rounds ahead."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

AHEAD: Final = 3
"""Rounds that wait for the process: it must not find its input empty while the next one is being written."""

_LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Feed:
    """The input of one process.

    Attributes:
        write: write the round of this number; return when it is there.
        waiting: count the records that the process has not dealt with; None if that is not known just now.
        records: how many records one round has.
    """

    write: Callable[[int], None]
    waiting: Callable[[], int | None]
    records: int

    def prepare(self) -> None:
        """Write what waits for the process when it starts."""
        for number in range(AHEAD):
            self.write(number)

    def keep_up(
        self,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        number: int = AHEAD,
    ) -> int:
        """Write the next rounds in time, for so long, from the one of this number on; return how many there are together."""
        began = clock()
        while clock() - began < seconds:
            waiting = self.waiting()
            if waiting is not None and waiting < AHEAD * self.records:
                self.write(number)
                number += 1
            else:
                sleep(_LOOK_SECONDS)
        return number
