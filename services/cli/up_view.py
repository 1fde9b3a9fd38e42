"""What `blobtide up` shows: states as they change, counts every few seconds, some of the flows, and what sinks print.

Plain lines, on a terminal and in a log alike. Counts come from the services' own ``/metrics``; flows are a sample read from
the topic without a group; so the view can neither hold up nor change anything.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

from libs.common.errors import BlobtideError, CodecError
from libs.common.kafka.readers.follow import Follower
from libs.common.process.health import NO_PARTITIONS
from libs.common.rows.formats.line import FlowLines
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import decode_rows
from libs.common.security.redaction import redact
from libs.common.security.visible import visible, visible_line
from services.cli.checks import MONITOR
from services.cli.probe import metrics_of, total, why_not_ready
from services.cli.supervisor import Change, Child, State, Supervisor
from services.cli.up_storage import storage_trouble
from services.cli.up_trouble import Look, Troubles, said

REFRESH_SECONDS: Final = 5.0
SAMPLE_LINES: Final = 5
# What is counted: label, services (all if there are none), metric, and which of its labels must have which value.
COUNTS: Final[tuple[tuple[str, str, str, dict[str, str]], ...]] = (
    ("blobs announced", MONITOR, "blobtide_blob_monitor_events_total", {"type": "BlobObserved"}),
    ("tuples parsed", "parser", "blobtide_parser_tuples_total", {}),
    ("dead letters", "", "blobtide_kafka_dead_letters_total", {}),
)
_INDENT: Final = 2
_WRITTEN: Final = "blobtide_sink_rows_total"


def fitted(line: str, width: int | None) -> str:
    """Return an indented flow line so that it fits: without its alignment and its date, and cut, if it must be."""
    if width is None or len(line) + _INDENT <= width:
        return line
    _, _, compact = " ".join(line.split()).partition("T")
    return compact[: width - _INDENT]


@dataclass(slots=True)
class Count:
    """A counter of a process that may start anew; the count goes on."""

    before: float = 0.0
    newest: float = 0.0
    life: int = 0

    def seen(self, value: float, life: int) -> None:
        """Take what the process says now, in its so many-th life: what it said last in an earlier one is added."""
        if life != self.life:
            self.before += self.newest
        self.newest, self.life = value, life

    @property
    def total(self) -> float:
        """The count over all its lives."""
        return self.before + self.newest


def _looks(supervisor: Supervisor) -> list[Look]:
    """Look at every program that has a health port."""
    return [_look(child, child.program.health_port) for child in supervisor.children if child.program.health_port is not None]


def _look(child: Child, port: int) -> Look:
    if child.state not in {State.STARTING, State.READY}:
        return Look(child, {}, child.why)
    return Look(child, metrics_of(port), why_not_ready(port))


@dataclass(slots=True)
class View:
    """Writes to `out`."""

    out: TextIO
    clock: Callable[[], float] = time.monotonic
    sample: Follower | None = None
    _last: float = 0.0
    _lines: FlowLines = field(default_factory=FlowLines)
    _relayed: dict[Path, int] = field(default_factory=dict)
    _results: dict[str, str] = field(default_factory=dict)
    _counts: dict[str, dict[str, Count]] = field(default_factory=dict)  # by label, by program
    _storage: str | None = None
    _troubles: Troubles = field(default_factory=Troubles)

    def starting(self, name: str) -> None:
        """Say that a server is being started."""
        self._say(f"{name:14} starting")

    def server(self, name: str, address: str) -> None:
        """Say where a server listens."""
        self._say(f"{name:14} ready     {address}")

    def to_copy(self, what: str, line: str) -> None:
        """Show a command for another terminal."""
        self._write(f"{what:14} {line}")

    def not_used(self, setting: str) -> None:
        """Say that a setting has no effect here."""
        self._say(f"{setting} is not used: `up` brings its own server")

    def started(self, results: Mapping[str, str]) -> None:
        """Say where results will be."""
        self._results = dict(results)
        for name, place in results.items():
            self._say(f"sink {name:9} writes to {place}")
        self._last = self.clock()

    def changed(self, change: Change) -> None:
        """Say that a program came into another state."""
        self._say(f"{change.name:14} {change.state.value:9} {change.detail}".rstrip())

    def refresh(self, supervisor: Supervisor, others: Iterable[tuple[str, str]] = ()) -> None:
        """Show what is new; cheap, and called often. `others` are servers that are not there, and why."""
        self._relay(supervisor)
        if self.clock() - self._last < REFRESH_SECONDS:
            return
        self._last = self.clock()
        looks = _looks(supervisor)
        self._show_sample()
        self._say(self._status(looks))
        away = tuple(others)
        for name, what in away:
            self._say(said(name, "waiting", what))
        self._show_troubles(looks, is_explained=bool(away))

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._say("stopping: services first, then the servers")

    def stopped(self, data_dir: Path) -> None:
        """Say what stays."""
        for name, place in self._results.items():
            self._say(f"sink {name:9} wrote to {place}")
        self._say(f"stopped; the data stay in {data_dir.absolute()}: the next run goes on, --fresh forgets them")

    def _status(self, looks: Iterable[Look]) -> str:
        for label, *_ in COUNTS:
            self._counts.setdefault(label, {})  # in this order
        for look in looks:
            name = look.child.program.name
            for label, service, metric, wanted in COUNTS:
                if service in {"", name}:
                    self._count(label, look, metric, wanted)
            if name.startswith("sink-"):
                self._count(name.removeprefix("sink-"), look, _WRITTEN, {"outcome": "written"})
        counted = {label for label, *_ in COUNTS}
        words = [
            f"{label} {sum(count.total for count in counts.values()):,.0f}{'' if label in counted else ' rows'}"
            for label, counts in self._counts.items()
        ]
        return f"{time.strftime('%H:%M:%S')}  " + "   ".join(words)

    def _count(self, label: str, look: Look, metric: str, wanted: Mapping[str, str]) -> None:
        count = self._counts.setdefault(label, {}).setdefault(look.child.program.name, Count())
        if look.families:  # a process that does not answer now has not lost its count
            count.seen(total(look.families, metric, wanted), look.child.restarts)

    def _relay(self, supervisor: Supervisor) -> None:
        """Pass on what children printed on their standard output since the last time."""
        for child in supervisor.children:
            path = child.program.relay
            if path is None or not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(self._relayed.setdefault(path, 0))
                text = file.read()
                self._relayed[path] = file.tell()
            if text:
                self.out.write(visible(text.decode(errors="replace")))
                self.out.flush()

    def _show_troubles(self, looks: Iterable[Look], *, is_explained: bool) -> None:
        """Say what does not get on; what waits for partitions only if no server's absence has explained that."""
        for look in looks:
            line = self._troubles.line(look)
            if is_explained and look.reason == NO_PARTITIONS:
                line = None
            if look.child.program.name == MONITOR and (storage := self._storage_line(look)):
                line = storage
            if line is not None:
                self._say(line)

    def _storage_line(self, look: Look) -> str | None:
        """Say what is wrong with storage, once it was so the last time too: the demo's containers are only just being made."""
        before, self._storage = self._storage, storage_trouble(look.families, look.child.program.log)
        return self._storage if self._storage == before else None

    def _show_sample(self) -> None:
        if self.sample is None:
            return
        try:
            newest = self.sample.poll(0.2)[-1:]
            for record in newest:
                table = decode_rows(FLOWS, record.value or b"")
                for line in self._lines.text(table.slice(max(0, table.num_rows - SAMPLE_LINES))).decode().splitlines():
                    self._say(f"  {fitted(line, self.width)}")
        except (BlobtideError, CodecError):
            return  # the view is not worth a failure

    @property
    def width(self) -> int | None:
        """The columns of the terminal; None if this is none, where lines may be of any length."""
        return shutil.get_terminal_size().columns if self.out.isatty() else None

    def _say(self, line: str) -> None:
        self._write(visible_line(redact(line)))

    def _write(self, line: str) -> None:
        self.out.write(line + "\n")
        self.out.flush()
