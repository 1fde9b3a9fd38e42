"""A sink of local files as a process that is stopped and killed, for property tests of what its files hold."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from hypothesis import strategies as st

from libs.common.rows.types.flows import FLOWS
from services.sinks.kinds.file.sink import FileSettings, FileSink
from services.sinks.local_state.files_sink import LocalFilesSink


class Event(Enum):
    """What happens after a write."""

    NOTHING = 0
    TIME = 1  # files are complete by time
    STOP = 2  # a clean stop and a new start
    DEATH = 3  # the process is gone without closing, and starts anew


# (how far back the next batch begins, how many new rows it brings, what happens then)
STEPS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9), st.sampled_from(Event)), max_size=10)


def file_process(settings: FileSettings) -> FileProcess:
    """Return the file sink as a process."""
    return FileProcess(lambda clock: FileSink(settings, FLOWS, clock))


class FileProcess:
    """A sink with a clock of its own, which `make` is given, and ways to end it."""

    def __init__(self, make: Callable[[Callable[[], float]], LocalFilesSink]) -> None:
        self._make = make
        self._now = 1_000_000.0
        self._start()

    def _start(self) -> None:
        self.sink = self._make(lambda: self._now)
        self.sink.open()

    def happens(self, event: Event) -> None:
        """Let an event happen."""
        if event is Event.TIME:
            self._now += 61
            self.sink.tick()
        elif event is Event.STOP:
            self.sink.close()
            self._start()
        elif event is Event.DEATH:
            for store in self.sink._shards._open.values():
                store.close()  # what the kernel does with a dead process's locks
            self._start()
