"""What the contract suite needs to know of a destination.

A kind joins the suite by a file ``tests/contract/harnesses/<kind>.py``, one of another distribution by an entry point of the
group ``blobtide.harnesses``, and nothing has to be told of it:

- ``MODES``: the ways of working that are tried, one of which a case names; without it there is one, ``""``.
- ``MARKS``: the pytest marker of its server, if it has one.
- ``harness(request, tmp_path, case) -> Harness``: a fresh destination; use ``request.getfixturevalue`` for a server.
- ``WITHOUT_TLS``: of a kind that takes secrets, options that sign in without TLS, which must be refused.
- ``BENCHMARK``: a `Benchmark`: how to measure it, and what it is compared with.

There is a case for each kind, mode and row type of `BASIC`, and for each kind and row type of `ONCE`, that the kind takes; if
it takes none of them, for each mode and the first row type that it takes.
"""

from __future__ import annotations

import importlib
import importlib.util
import resource
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from libs.common.rows.row_type import RowType
from libs.common.rows.types import ROW_TYPES
from libs.common.settings import Settings
from libs.local.process import LocalServer
from services.sinks.frame.contract import Part, Sink
from services.sinks.frame.kind import all_kinds, find_kind
from services.sinks.frame.registry import ConfiguredSink, configured_sink
from tests import row_samples
from tests.contract.peers import Options, Peer

GROUP = "blobtide.harnesses"
Row = Mapping[str, Any]
Content = dict[Any, Any]
BASIC = ("flows", "dead_letters")
ONCE = ("application",)
"""Row types with kinds of columns that those of `BASIC` do not have: a time in nanoseconds."""
SHARDS = 2
MESSAGE_ROWS = 5

# The steps of a sink that keeps its state on a local disk.
CRASH_POINTS = (
    "sink.spool-written",
    "sink.spool-synced",
    "sink.before-commit",
    "sink.committed",
    "sink.part-synced",
    "sink.part-recorded",
    "sink.part-renamed",
    "sink.rolled",
)


@dataclass(frozen=True, slots=True)
class Case:
    """One way to use one kind."""

    kind: str
    mode: str
    row_type: RowType

    @property
    def name(self) -> str:
        """Its name in the list of tests."""
        return "-".join(filter(None, (self.kind, self.mode, self.row_type.name)))

    def rows(self, sources: int = 3, records: int = 3, each: int = 4) -> list[dict[str, Any]]:
        """Return rows of its type, as a pipeline would see them grow."""
        return row_samples.rows(self.row_type, sources, records, each)

    def shard_of(self, row: Row) -> int:
        """Return the shard of a row: one for each source, for ever."""
        source: str = row[self.row_type.position.source]
        return sum(source.encode()) % SHARDS

    def parts(self, rows: Sequence[Row]) -> list[Part]:
        """Return rows as the parts of one write."""
        by_shard = {shard: [row for row in rows if self.shard_of(row) == shard] for shard in range(SHARDS)}
        return [self._part(shard, content) for shard, content in by_shard.items() if content]

    def _part(self, shard: int, rows: Sequence[Row]) -> Part:
        table = row_samples.table(self.row_type, rows).unify_dictionaries().combine_chunks()
        return Part(shard, self.row_type, table, (*range(MESSAGE_ROWS, len(rows), MESSAGE_ROWS), len(rows)))


@contextmanager
def killed(server: LocalServer) -> Iterator[None]:
    """Have a server killed inside, and running again afterwards."""
    server.kill()
    try:
        yield
    finally:
        server.start()


class Harness(ABC):
    """One fresh destination and ways to look at it.

    Attributes:
        case: what is tried.
        more: options that one test adds.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.more: dict[str, Any] = {}

    @property
    def is_ordered(self) -> bool:
        """Whether a reader sees the rows of one source in order; `read` then has positions as keys, in that order."""
        return False

    @property
    def overwrites(self) -> bool:
        """Whether a row that is there replaces itself, so that another process cannot tell it from a new one."""
        return False

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the sink's options, but for the row type; always the same destination."""

    @abstractmethod
    def read(self) -> Content:
        """Return everything that is at the destination, after all sinks are closed; fail if something is there twice."""

    @abstractmethod
    def expected(self, rows: Sequence[Row]) -> Content:
        """Return what `read` gives when these rows were written once."""

    def weights(self, found: Content) -> int:
        """Return how many rows of what was read say for how many they stand."""
        return sum("sample_weight" in str(value) for value in found.values())

    @abstractmethod
    def outage(self) -> AbstractContextManager[None]:
        """Make writes fail inside; afterwards the destination is back, or comes back by itself soon."""

    def refusal(self) -> AbstractContextManager[None]:
        """Let the destination refuse every row for a reason of its own, then take rows again. By default, an outage."""
        return self.outage()

    def refused(self) -> Row | None:
        """Return a row that the destination refuses for good, or None if it takes everything."""
        return None

    def pipeline(self) -> Settings | None:
        """Return the settings of the pipeline that the sink joins, if it needs any."""
        return None

    def all_options(self) -> dict[str, Any]:
        """Return the sink's options."""
        return {"rows": self.case.row_type.name, **self.options(), **self.more}

    def sink(self) -> Sink:
        """Build a sink as a new process would; not opened."""
        return self.configured().sink

    def configured(self) -> ConfiguredSink:
        """Build a sink with all that its settings say."""
        kind = self.case.kind
        return configured_sink({kind: self.all_options()}, kind, self.pipeline())

    def recover(self) -> None:
        """Let a new process recover what a killed one left, so that readers see it."""
        sink = self.sink()
        sink.open()
        sink.close()

    def standard_output(self) -> AbstractContextManager[Any]:
        """Return where the standard output of a process with this sink goes."""
        return nullcontext()


@dataclass(frozen=True, slots=True)
class Benchmark:
    """How the benchmarks measure a sink.

    Attributes:
        ends: when a row counts as delivered, in words.
        own: the option that gives a run a place of its own: a name, or a directory; None if all runs write to one place.
        is_directory: whether it is a directory.
        times: how often the data: a local sink would have written it once before the clock runs.
        server: what it writes to, if that has to run.
        options: options, given the server.
        needs_setup: whether `sink-setup` comes first.
        count: how many rows are at the place, given the server and the options; None if the destination cannot say. It is
            asked after the writer has ended.
        peers: what somebody would use in its place. The sink is compared with the first one.
    """

    ends: str
    own: str | None
    is_directory: bool = False
    times: int = 1
    server: Callable[[Path], LocalServer] | None = None
    options: Callable[[Any], Options] = field(default=lambda _: {})
    needs_setup: bool = False
    count: Callable[[Any, Options], int] | None = None
    peers: tuple[Peer, ...] = ()


def module_of(kind: str) -> ModuleType | None:
    """Return the harness module of a kind, if there is one."""
    name = f"tests.contract.harnesses.{kind}"
    if importlib.util.find_spec(name) is not None:
        return importlib.import_module(name)
    others = entry_points(group=GROUP, name=kind)
    return next((point.load() for point in others), None)


def cases() -> Iterator[Case]:
    """Return the cases of each kind that has a harness: each mode with `BASIC` row types, the first one also with others.

    A row type whose columns are of no new types would add nothing but time: `tests/property` tries formats with all of them. A
    kind that takes none of these is tried with the first that it takes.
    """
    for kind, found in all_kinds().items():
        module = module_of(kind)
        if module is not None and found.is_installed:
            taken = found.load(found.sink).row_types
            for number, mode in enumerate(getattr(module, "MODES", ("",))):
                tried = [name for name in (BASIC if number else (*BASIC, *ONCE)) if name in taken]
                yield from (Case(kind, mode, ROW_TYPES[name]) for name in tried or taken[:1])


def benchmark_of(kind: str) -> Benchmark | None:
    """Return how a kind is measured, if it is."""
    return getattr(module_of(kind), "BENCHMARK", None)


def benchmarks() -> dict[str, Benchmark]:
    """Return what is measured, by kind."""
    return {kind: found for kind in all_kinds() if (found := benchmark_of(kind)) is not None}


def promises_of(case: Case) -> tuple[str, ...]:
    """Return what the kind says that its sinks promise."""
    kind = find_kind(case.kind)
    assert kind is not None
    return kind.promises


@contextmanager
def full_disk(limit: int = 65_536) -> Iterator[None]:
    """Let no file of this process grow beyond `limit` bytes, as a full disk would."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


class LocalDiskHarness(Harness):
    """A destination in a directory."""

    def __init__(self, case: Case, directory: Path) -> None:
        super().__init__(case)
        self.directory = directory

    def outage(self) -> AbstractContextManager[None]:
        """Fill the disk."""
        return full_disk()
