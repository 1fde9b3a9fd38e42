"""Watch, while `blobtide up` runs, whether Kafka's consumer groups work; a dedicated thread probes them every few seconds.

A broker restarted after a kill may lose its groups for good, seconds after it became ready: a load of their state ends in the
place of another one. It still answers for topics, so only a working group proves that groups work. A broker whose groups
have not worked for `PATIENCE_SECONDS` needs a restart; if that does not help, the next one comes after twice as long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from libs.common.errors import BlobtideError

PATIENCE_SECONDS: Final = 40.0  # on a busy machine a broker may be silent for long
_LONGEST_PATIENCE: Final = 640.0
_EVERY_SECONDS: Final = 5.0
_ASK_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 2.0
_SLEPT_SECONDS: Final = 20.0  # a longer gap between checks means that this process, and its probe, were suspended


class Probe(Protocol):
    """The interface of `GroupProbe`."""

    def ask(self, seconds: float) -> str | None:
        """Return None if groups work, otherwise why not."""

    def close(self) -> None:
        """Disconnect."""


class GroupWatch:
    """Tracks when groups last worked. Everything except the probing runs in the caller's thread."""

    def __init__(self, probe: Probe, clock: Callable[[], float] = time.monotonic) -> None:
        self._probe = probe
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="groups", daemon=True)
        self._worked_at = clock()
        self._patience = PATIENCE_SECONDS
        self._reason = ""
        self._looked_at = self._worked_at

    def start(self) -> None:
        """Start probing."""
        self.forgive()
        self._looked_at = self._worked_at
        self._thread.start()

    def forgive(self) -> None:
        """Restart the count: the broker is known to be down."""
        self._worked_at = self._clock()

    def still_for(self) -> float:
        """Return the number of seconds for which groups have not worked."""
        return self._clock() - self._worked_at if self._thread.is_alive() else 0.0

    @property
    def reason(self) -> str:
        """Why groups do not work."""
        return self._reason or "no answer"

    def is_lost(self) -> bool:
        """Return whether groups have failed for so long that the broker needs a restart. Must be called often."""
        now = self._clock()
        if now - self._looked_at > _SLEPT_SECONDS:
            self.forgive()
        self._looked_at = now
        return self.still_for() >= self._patience

    def broker_restarts(self) -> None:
        """Wait longer next time: a restart that does not help only costs."""
        self._patience = min(2 * self._patience, _LONGEST_PATIENCE)
        self.forgive()

    def close(self) -> None:
        """End the thread; one that hangs in the client is abandoned. Idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_SECONDS + _ASK_SECONDS)

    def _ask(self) -> None:
        try:
            while not self._stop.wait(_EVERY_SECONDS):
                self._take(self._answer())
        finally:
            self._probe.close()

    def _answer(self) -> str | None:
        try:
            return self._probe.ask(_ASK_SECONDS)
        except BlobtideError as error:
            return str(error)

    def _take(self, reason: str | None) -> None:
        if reason is None:
            self._worked_at, self._patience = self._clock(), PATIENCE_SECONDS
        self._reason = reason or ""
