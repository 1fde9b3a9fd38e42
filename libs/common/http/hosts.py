"""Equivalent servers in rotation, whatever they speak. One that failed is avoided for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0
_MOST_DOUBLINGS: Final = 6  # reaches the longest pause; unlimited doubling would overflow a float after days


class Hosts:
    """Rotates hosts. A host that failed is avoided for a second, then two, and so on up to a minute."""

    def __init__(self, addresses: tuple[str, ...], clock: Callable[[], float] = time.monotonic) -> None:
        self._addresses = addresses
        self._clock = clock
        self._failures = dict.fromkeys(addresses, 0)
        self._back_at = dict.fromkeys(addresses, 0.0)
        self._turn = 0
        self._lock = threading.Lock()

    def candidates(self) -> list[str]:
        """Return the hosts to try, in order; if all are avoided, the one that returns first."""
        with self._lock:
            turn, self._turn = self._turn, (self._turn + 1) % len(self._addresses)
            ordered = self._addresses[turn:] + self._addresses[:turn]
            now = self._clock()
            return [a for a in ordered if self._back_at[a] <= now] or [min(ordered, key=self._back_at.__getitem__)]

    def failed(self, address: str) -> None:
        """Avoid a host for a while."""
        with self._lock:
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._failures[address], _MOST_DOUBLINGS))
            self._failures[address] += 1
            self._back_at[address] = self._clock() + pause

    def worked(self, address: str) -> None:
        """Consider a host healthy again."""
        with self._lock:
            self._failures[address] = 0
            self._back_at[address] = 0.0

    def pause(self) -> float:
        """Return the number of seconds until a retry makes sense."""
        with self._lock:
            return max(_FIRST_PAUSE, min(self._back_at.values()) - self._clock())
