"""The output of `blobtide up`: changes of state, counts every few seconds, sample flows, and the output of sinks.

Lines, both on a terminal and in a log, because the output of sinks stands between them; a terminal shows them in colour. Counts
come from the services' own ``/metrics``, and flows are sampled from the topic without a group, so the view can neither delay
nor change anything.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
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
from services.cli.config.checks import COLLECTOR, MONITOR, RECORDER
from services.cli.pretty import styled
from services.cli.probe import metrics_of, total, why_not_ready
from services.cli.up.news import ResourceNews
from services.cli.up.storage import storage_trouble
from services.cli.up.supervisor import Child, ProgramState, StateChange, Supervisor
from services.cli.up.trouble import Look, Troubles, said

REFRESH_SECONDS: Final = 5.0
SAMPLE_LINES: Final = 5
# What is counted: label, service (empty: all; one that does not run has no count), metric, and label values of its samples.
COUNTS: Final[tuple[tuple[str, str, str, dict[str, str]], ...]] = (
    ("blobs announced", MONITOR, "blobtide_blob_monitor_events_total", {"type": "BlobObserved"}),
    ("tuples parsed", "parser", "blobtide_parser_tuples_total", {}),
    ("resources collected", COLLECTOR, "blobtide_collector_elements_total", {}),
    ("changes", COLLECTOR, "blobtide_collector_resource_changes_total", {}),
    ("snapshots", RECORDER, "blobtide_recorder_rows_total", {}),
    ("dead letters", "", "blobtide_kafka_dead_letters_total", {}),
)
# How a terminal shows a state, and what keeps something from working.
_STYLES: Final[Mapping[ProgramState, str]] = {
    ProgramState.READY: "green",
    ProgramState.WAITING: "yellow",
    ProgramState.FAILED: "red",
}
_TROUBLE: Final = "yellow"
_INDENT: Final = 2
_NAME_WIDTH: Final = 9
_ROWS: Final = "blobtide_sink_rows_total"


def fitted(line: str, width: int | None) -> str:
    """Shorten an indented flow line to fit: drop its alignment and date, then cut it if necessary."""
    if width is None or len(line) + _INDENT <= width:
        return line
    _, _, compact = " ".join(line.split()).partition("T")
    return compact[: width - _INDENT]


@dataclass(slots=True)
class Count:
    """A counter that survives restarts of its process."""

    before: float = 0.0
    newest: float = 0.0
    life: int = 0

    def seen(self, value: float, life: int) -> None:
        """Record the value reported in the process's given life; the last value of an earlier life is added to the total."""
        if life != self.life:
            self.before += self.newest
        self.newest, self.life = value, life

    @property
    def total(self) -> float:
        """The count over all lives of the process."""
        return self.before + self.newest


def _looks(supervisor: Supervisor) -> list[Look]:
    """Observe every program that has a health port."""
    return [_look(child, child.program.health_port) for child in supervisor.children if child.program.health_port is not None]


def _look(child: Child, port: int) -> Look:
    if child.state not in {ProgramState.STARTING, ProgramState.READY}:
        return Look(child, {}, child.why)
    return Look(child, metrics_of(port), why_not_ready(port))


def _add(count: Count, look: Look, metric: str, wanted: Mapping[str, str]) -> None:
    if look.families:  # keep the count of a process that does not respond right now
        count.seen(total(look.families, metric, wanted), look.child.restarts)


@dataclass(slots=True)
class View:
    """Writes to `out`."""

    out: TextIO
    clock: Callable[[], float] = time.monotonic
    sample: Follower | None = None
    news: ResourceNews | None = None
    _last: float = 0.0
    _lines: FlowLines = field(default_factory=FlowLines)
    _relayed: dict[Path, int] = field(default_factory=dict)
    _results: dict[str, str] = field(default_factory=dict)
    _counts: dict[str, dict[str, Count]] = field(default_factory=dict)  # by label, by program
    _filtered: dict[str, Count] = field(default_factory=dict)  # rows left out on purpose, by sink
    _speaker: Path | None = None  # whose output was passed on last
    _storage: str | None = None
    _troubles: Troubles = field(default_factory=Troubles)

    def starting(self, name: str) -> None:
        """Report that a server is starting."""
        self._say(f"{name:14} starting")

    def server(self, name: str, address: str) -> None:
        """Report a server's address."""
        self._say(f"{name:14} ready     {address}", _STYLES[ProgramState.READY])

    def to_copy(self, what: str, line: str) -> None:
        """Show a command for another terminal."""
        self._write(f"{what:14} {line}")

    def not_used(self, setting: str) -> None:
        """Report that a setting has no effect here."""
        self._say(f"{setting} is ignored: `up` runs its own server")

    def started(self, results: Mapping[str, str]) -> None:
        """Report where sinks write their results."""
        self._results = dict(results)
        self._say_results("writes to")
        self._last = self.clock()

    def changed(self, change: StateChange) -> None:
        """Report a program's change of state."""
        self._say(f"{change.name:14} {change.state.value:9} {change.detail}".rstrip(), _STYLES.get(change.state, ""))

    def refresh(self, supervisor: Supervisor, others: Iterable[tuple[str, str]] = ()) -> None:
        """Show news; cheap, and called often. `others` are servers that are down, and why."""
        self._relay(supervisor)
        if self.clock() - self._last < REFRESH_SECONDS:
            return
        self._last = self.clock()
        looks = _looks(supervisor)
        self._show_sample()
        self._show_news()
        self._say(self._status(looks), "bold")
        away = tuple(others)
        for name, what in away:
            self._say(said(name, "waiting", what), _TROUBLE)
        self._show_troubles(looks, is_explained=bool(away))

    def stopping(self) -> None:
        """Report that stopping has begun."""
        self._say("stopping: services first, then the servers")

    def stopped(self, data_dir: Path) -> None:
        """Report what is kept."""
        self._say_results("wrote to")
        self._say(f"stopped; data is kept in {data_dir.absolute()} for the next run; --fresh deletes it")

    def _say_results(self, verb: str) -> None:
        width = max((_NAME_WIDTH, *map(len, self._results)))
        for name, place in self._results.items():
            self._say(f"sink {name:{width}} {verb} {place}")

    def _status(self, looks: Iterable[Look]) -> str:
        looks = tuple(looks)
        running = {"", *(look.child.program.name for look in looks)}
        for label, service, *_ in COUNTS:
            if service in running:
                self._counts.setdefault(label, {})  # in this order
        for look in looks:
            name = look.child.program.name
            for label, service, metric, wanted in COUNTS:
                if service in {"", name}:
                    self._count(label, look, metric, wanted)
            if name.startswith("sink-"):
                sink = name.removeprefix("sink-")
                self._count(sink, look, _ROWS, {"outcome": "written"})
                _add(self._filtered.setdefault(sink, Count()), look, _ROWS, {"outcome": "filtered"})
        return f"{time.strftime('%H:%M:%S')}  " + "   ".join(self._counted())

    def _counted(self) -> Iterator[str]:
        fixed = {label for label, *_ in COUNTS}
        for label, counts in self._counts.items():
            rows = "" if label in fixed else " rows"
            filtered = self._filtered[label].total if label in self._filtered else 0
            left_out = f" ({filtered:,.0f} filtered)" if filtered else ""
            yield f"{label} {sum(count.total for count in counts.values()):,.0f}{rows}{left_out}"

    def _count(self, label: str, look: Look, metric: str, wanted: Mapping[str, str]) -> None:
        _add(self._counts.setdefault(label, {}).setdefault(look.child.program.name, Count()), look, metric, wanted)

    def _relay(self, supervisor: Supervisor) -> None:
        """Pass on what children have written to standard output since the last call."""
        for child in supervisor.children:
            path = child.program.relay
            if path is None or not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(self._relayed.setdefault(path, 0))
                text = file.read()
                self._relayed[path] = file.tell()
            if text:
                if self._speaker not in {None, path}:
                    self._say(f"{child.program.name}:", "dim")
                self._speaker = path
                self.out.write(visible(text.decode(errors="replace")))
                self.out.flush()

    def _show_troubles(self, looks: Iterable[Look], *, is_explained: bool) -> None:
        """Report programs in trouble; those waiting for partitions only if no missing server explains it."""
        for look in looks:
            line = self._troubles.line(look)
            if is_explained and look.reason == NO_PARTITIONS:
                line = None
            if look.child.program.name == MONITOR and (storage := self._storage_line(look)):
                line = storage
            if line is not None:
                self._say(line, _TROUBLE)

    def _storage_line(self, look: Look) -> str | None:
        """Return what is wrong with storage once seen twice in a row: the demo's containers are only just being created."""
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
                    self._say(f"  {fitted(line, self.width)}", "dim")
        except (BlobtideError, CodecError):
            return  # the view must not cause a failure

    def _show_news(self) -> None:
        """Show what has become of resources; what is missed meanwhile is in the counts."""
        if self.news is None:
            return
        with suppress(BlobtideError):  # the view must not cause a failure
            for line in self.news.lines():
                self._say(f"  {line if self.width is None else line[: self.width - _INDENT]}", "dim")

    @property
    def width(self) -> int | None:
        """Width of the terminal in columns; None if the output is not a terminal and lines may have any length."""
        return shutil.get_terminal_size().columns if self.out.isatty() else None

    def _say(self, line: str, style: str = "") -> None:
        self._write(styled(line, style) if self.out.isatty() else visible_line(redact(line)))

    def _write(self, line: str) -> None:
        self.out.write(line + "\n")
        self.out.flush()
