"""Longer runs that show whether memory and cost stay flat: a process that works without pause and is sampled continuously.

Input is written while the process works, so that it lasts for as long as requested on a machine of any speed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.destinations import Destination
from benchmarks.errors import BenchmarkFailed
from benchmarks.estates import Data
from benchmarks.feeding import AHEAD, Feed
from benchmarks.ingesting import INGEST, rounds
from benchmarks.measured import Mark, Measured, Work, parts_of
from benchmarks.parsing import PARSER, ROWS_COMMITTED, another, raw_records
from benchmarks.sinking import flow_batches, sink_worker
from benchmarks.site import Site, storage_settings
from benchmarks.storage import container_of
from benchmarks.worker import SERVICE, Worker, running
from libs.common.kafka.records import Outbound
from libs.local.azurite import LocalAzurite
from libs.local.kafka import LocalKafka
from services.parser.flows.kernel import Parsed, parse

_ROWS: Final = "blobtide_sink_rows_total"
_TUPLES: Final = "blobtide_parser_tuples_total"
_LASTING: Final = ", lasting"
_PARTS: Final = 5  # parts of a long run, whose costs are compared

Round = Callable[[int], Iterable[Outbound]]  # returns the records of a round by its number


def ingest(kafka: LocalKafka, azurite: LocalAzurite, data: Data, seconds: float) -> Measured:
    """Let ingest read all blobs again and again."""
    site = Site.make(kafka, storage_settings(azurite, container_of(data)))
    worker = Worker((*SERVICE, "ingest"), site)
    count = 0
    with running(worker):
        marks = [_mark(worker, count)]
        for count in rounds(site, azurite, data):
            worker.check()
            if time.monotonic() - marks[0].at >= len(marks) * seconds / _PARTS:
                marks.append(_mark(worker, count))
            if time.monotonic() - marks[0].at >= seconds:
                break
    work = Work(count * data.tuples, count * data.blob_bytes, count * len(data.blobs))
    ends = "segments, checkpoints, offsets committed"
    return Measured(INGEST + _LASTING, data.name, work, parts_of(marks), ends, memory=worker.memory())


def parser(kafka: LocalKafka, data: Data, seconds: float) -> Measured:
    """Let the parser work for the given time."""
    site = Site.make(kafka)
    worker = Worker((*SERVICE, "parser"), site)
    feed = _feed(worker, (site, "parser", site.topics.raw_flow_logs), partial(_segments, data, site.topics.raw_flow_logs))
    return _lasting(Long(PARSER, worker, feed, _TUPLES, ROWS_COMMITTED), data, seconds)


def sink(kafka: LocalKafka, place: Destination, data: Data, seconds: float) -> Measured:
    """Let one sink write the parser's output for `data` for the given time."""
    site = Site.make(kafka)
    worker = sink_worker(site, place)
    feed = _feed(worker, (site, f"sink.{place.name}", site.topics.flows), FlowRounds(data, site.topics.flows))
    return _lasting(Long(f"sink {place.name}", worker, feed, _ROWS, place.benchmark.ends), data, seconds)


@dataclass(frozen=True, slots=True)
class Long:
    """A process that is fed, the metric that counts its processed tuples, and what is durable by then."""

    stage: str
    worker: Worker
    feed: Feed
    metric: str
    ends: str


def _lasting(long: Long, data: Data, seconds: float) -> Measured:
    long.feed.prepare()
    number = AHEAD
    with running(long.worker):
        marks = [_mark(long.worker, long.worker.metric(long.metric))]
        for _ in range(_PARTS):
            number = long.feed.keep_up(seconds / _PARTS, number=number)
            marks.append(_mark(long.worker, long.worker.metric(long.metric)))
    tuples = int(marks[-1].done - marks[0].done)
    if not tuples:
        raise BenchmarkFailed(f"{long.stage} processed nothing in {seconds:.0f} s")
    work = Work(tuples, tuples * data.segment_bytes // data.tuples)
    return Measured(long.stage + _LASTING, data.name, work, parts_of(marks), long.ends, memory=long.worker.memory())


def _mark(worker: Worker, done: float) -> Mark:
    return Mark(worker.cpu(), time.monotonic(), done)


def _segments(data: Data, topic: str, number: int) -> Iterable[Outbound]:
    return raw_records(another(data, number), topic)


class FlowRounds:
    """The flow batches of a round: parsed once, and given another generation's name for each round."""

    def __init__(self, data: Data, topic: str) -> None:
        self._parsed = [(parse(piece.segments), piece.partitions) for piece in data.portions()]
        self._topic = topic

    def __call__(self, number: int) -> Iterable[Outbound]:
        """Yield the records of a round."""
        for parsed, partitions in self._parsed:
            yield from flow_batches(_renamed(parsed, number), partitions, self._topic)


def _renamed(parsed: Parsed, number: int) -> Parsed:
    place = parsed.batch.schema.get_field_index("generation")
    column = parsed.batch.column(place)
    words = pc.binary_join_element_wise(column.dictionary, str(number), ".")
    renamed = pa.DictionaryArray.from_arrays(column.indices, words)
    return replace(parsed, batch=parsed.batch.set_column(place, parsed.batch.schema.field(place), renamed))


def _feed(worker: Worker, reading: tuple[Site, str, str], of_round: Round) -> Feed:
    """Return the feed of a process that reads the given (site, role, topic)."""
    site, role, topic = reading

    def waiting() -> int | None:
        worker.check()
        return site.lag(role, topic)

    return Feed(lambda number: site.write(of_round(number)), waiting, sum(1 for _ in of_round(0)))
