"""Keep the local servers of `blobtide up` running: one that ends is restarted on the same port, with its data.

Nothing here blocks, so that services are supervised meanwhile: `step` is called several times a second. A server that does not
come up is retried after a delay that doubles, for as long as `up` runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from libs.common.errors import BlobtideError
from libs.local.ports import is_free
from libs.local.process import STOP_SECONDS, LocalServer
from services.cli.up.supervisor import FIRST_DELAY, LONGEST_DELAY, PORT_SECONDS, ProgramState, StateChange


@dataclass(slots=True)
class Kept:
    """A server and the state of its supervision."""

    server: LocalServer
    state: ProgramState = ProgramState.READY
    why: str = ""  # why it is not ready
    again_at: float = 0.0
    delay: float = FIRST_DELAY
    end_by: float | None = None  # deadline to end, after which it is killed and restarted


@dataclass(slots=True)
class Servers:
    """Servers that have been started once. Not thread-safe."""

    clock: Callable[[], float] = time.monotonic
    kept: list[Kept] = field(default_factory=list)

    def add(self, server: LocalServer) -> None:
        """Supervise a running server."""
        self.kept.append(Kept(server))

    def is_ready(self, server: LocalServer) -> bool:
        """Return whether a server is ready and no restart is under way."""
        return any(kept.state is ProgramState.READY and kept.end_by is None for kept in self.kept if kept.server is server)

    def step(self) -> list[StateChange]:
        """Do what can be done without waiting; return what changed."""
        return [change for kept in self.kept for change in self._look_after(kept)]

    def restart(self, server: LocalServer, why: str) -> list[StateChange]:
        """Ask a server to end; it is killed if it does not within ten seconds, then restarted."""
        kept = next(kept for kept in self.kept if kept.server is server)
        kept.end_by = self.clock() + STOP_SECONDS
        server.ask_to_end()
        return list(_waiting(kept, why))

    def _look_after(self, kept: Kept) -> Iterator[StateChange]:
        match kept.state:
            case ProgramState.STARTING:
                yield from self._wait_until_up(kept)
            case ProgramState.WAITING if kept.end_by is not None:
                if self.clock() >= kept.end_by or not kept.server.running:
                    kept.server.kill()
                    kept.end_by, kept.again_at = None, self.clock()
            case ProgramState.WAITING:
                if self.clock() >= kept.again_at:
                    yield from self._begin(kept)
            case _ if not kept.server.running:
                kept.server.kill()  # clean up what is left of it
                kept.again_at = self.clock()
                yield from _waiting(kept, f"it ended; see {kept.server.log_path}")
            case _:
                pass

    def _begin(self, kept: Kept) -> Iterator[StateChange]:
        port = kept.server.port
        if not is_free(port):
            kept.again_at = self.clock() + PORT_SECONDS
            yield from _waiting(kept, f"waiting for its port {port}, which another process is using")
            return
        try:
            kept.server.begin()
        except (BlobtideError, OSError) as error:
            yield from self._put_off(kept, error)
        else:
            kept.state = ProgramState.STARTING

    def _wait_until_up(self, kept: Kept) -> Iterator[StateChange]:
        try:
            is_up = kept.server.is_up()
        except BlobtideError as error:
            kept.server.kill()
            yield from self._put_off(kept, error)
            return
        if is_up:
            kept.state, kept.why, kept.delay = ProgramState.READY, "", FIRST_DELAY
            yield StateChange(kept.server.name, ProgramState.READY)

    def _put_off(self, kept: Kept, error: Exception) -> Iterator[StateChange]:
        kept.again_at = self.clock() + kept.delay
        first_line = str(error).partition("\n")[0]
        yield from _waiting(kept, f"{first_line}; retrying in {kept.delay:.0f} s")
        kept.delay = min(kept.delay * 2, LONGEST_DELAY)


def _waiting(kept: Kept, why: str) -> Iterator[StateChange]:
    """Report why a server is down, unless that was already reported."""
    is_news = why != kept.why
    kept.state, kept.why = ProgramState.WAITING, why
    if is_news:
        yield StateChange(kept.server.name, ProgramState.WAITING, why)
