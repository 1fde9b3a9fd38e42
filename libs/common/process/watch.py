"""A process's stop flag and health together, for long operations."""

from __future__ import annotations

from dataclasses import dataclass

from libs.common.errors import Retry
from libs.common.process.health import Health
from libs.common.process.service import Stop


@dataclass(frozen=True, slots=True)
class Watch:
    """Lets a long operation be stopped, and keeps the process alive meanwhile."""

    stop: Stop
    health: Health

    def keep_alive(self) -> None:
        """Stay alive during a long operation. Call it many times a second.

        Raises:
            Retry: the process should stop; abandon the operation.
        """
        if self.stop.is_set():
            raise Retry("the process is stopping")
        self.health.beat()
