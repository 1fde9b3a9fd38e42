"""What a sink is measured against: the client library that somebody would use in its place, fed with one row after another.

A harness lists its peers in its `Benchmark`, and the benchmarks run each in a process of its own, on the rows and at the server
of the sink.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Any, TypeVar

from libs.common.rows.formats.encoders import RowFormat

Options = Mapping[str, Any]
T = TypeVar("T")


class Takes(Enum):
    """What a peer gets for each row. Everything but JSON is ready before the clock runs."""

    DOCUMENTS = "documents"  # a dictionary as it would be in JSON: without nulls, times as text
    VALUES = "values"  # a dictionary with all columns: None for null, times as datetime
    JSON = "json"  # the document as bytes, which json.dumps makes while the clock runs
    BYTES = "bytes"  # the same, but prepared: what is left is the client library


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to write rows without blobtide.

    Attributes:
        name: the library or its call, as in the table.
        write: given the sink's options, with a place of its own, and the rows: writes them all, and returns how many the
            destination has acknowledged. It is called twice: first with a few rows, so that imports do not count.
        takes: what it gets for each row.
        rows: how many to measure: a few seconds of work.
        form: the format of documents: that of the sink.
        options: options of the sink that it needs to be otherwise.
        ends: when a row counts as delivered, in words, where that is sooner than for the sink.
    """

    name: str
    write: Callable[[Options, Iterable[Any]], int]
    takes: Takes = Takes.DOCUMENTS
    rows: int = 50_000
    form: RowFormat = RowFormat.JSON
    options: Options = field(default_factory=dict)
    ends: str | None = None


Write = Callable[[Options, Iterable[bytes]], int]


def one_by_one(name: str, write: Write, prepared: Write | None = None, rows: int = 50_000) -> tuple[Peer, Peer]:
    """Return the peers of a destination that takes a message for each row: with json.dumps, and with prepared bytes.

    `prepared` is how these are written, if the sink's messages have more than their content.
    """
    return (
        Peer(f"{name}, json.dumps", write, Takes.JSON, rows),
        Peer(f"{name}, prepared bytes", prepared or write, Takes.BYTES, rows),
    )


def some_at_a_time(rows: Iterable[T], count: int) -> Iterator[list[T]]:
    """Yield lists of at most `count` rows."""
    remaining = iter(rows)
    while some := list(islice(remaining, count)):
        yield some
