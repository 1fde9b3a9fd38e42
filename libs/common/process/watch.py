"""A process's stop and health together, for what may take long."""

from __future__ import annotations

from dataclasses import dataclass

from libs.common.errors import Retry
from libs.common.process.health import Health
from libs.common.process.service import Stop


@dataclass(frozen=True, slots=True)
class Watch:
    """Who may end what takes long, and who is told that it goes on."""

    stop: Stop
    health: Health

    def keep_alive(self) -> None:
        """Stay alive while something takes long. Call it many times a second.

        Raises:
            Retry: the process is to end; leave it.
        """
        if self.stop.is_set():
            raise Retry("the process is stopping")
        self.health.beat()
