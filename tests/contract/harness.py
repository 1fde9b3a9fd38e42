"""What the contract suite needs to know of a destination.

A sink joins the suite by ``tests/contract/harnesses/<kind>.py`` with a function ``harness(request, tmp_path) -> Harness`` (use
``request.getfixturevalue`` for a server) and, for a server, ``MARKS`` with its pytest marker.
"""

from __future__ import annotations

import resource
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from services.sinks.frame.contract import Part, Sink
from services.sinks.frame.registry import configured_sink
from tests.flows import part as flow_part

Row = Mapping[str, Any]
Content = dict[Any, Any]
SHARDS = 2

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


class Harness(ABC):
    """One fresh destination and ways to look at it."""

    kind: str

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the sink's options; always the same destination."""

    @abstractmethod
    def read(self) -> Content:
        """Return everything that is at the destination, after all sinks are closed; fail if something is there twice."""

    @abstractmethod
    def expected(self, rows: Sequence[Row]) -> Content:
        """Return what `read` gives when these rows were written once."""

    @abstractmethod
    def outage(self) -> AbstractContextManager[None]:
        """Make writes fail inside; afterwards the destination is back, or comes back by itself soon."""

    def refusal(self) -> AbstractContextManager[None]:
        """Let the destination refuse every row for a reason of its own; afterwards it takes rows again."""
        return self.outage()

    def refused(self) -> Row | None:
        """Return a row that the destination refuses for good, or None if it takes everything."""
        return None

    def sink(self) -> Sink:
        """Build a sink as a new process would; not opened."""
        return configured_sink({self.kind: self.options()}, self.kind).sink


def shard_of(row: Row) -> int:
    """Return the shard of a row: one for each blob, for ever."""
    blob: str = row["blob"]
    return sum(blob.encode()) % SHARDS


def parts(rows: Sequence[Row]) -> list[Part]:
    """Return rows as the parts of one write."""
    by_shard = {shard: [row for row in rows if shard_of(row) == shard] for shard in range(SHARDS)}
    return [flow_part(shard, content) for shard, content in by_shard.items() if content]


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

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def outage(self) -> AbstractContextManager[None]:
        """Fill the disk."""
        return full_disk()
