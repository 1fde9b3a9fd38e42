"""The aggregator's own steps in this process: batches of flows to batches of rollups, beside a dictionary of sums in Python.

Both get the batches that the parser writes, and check what they have summed up. The peer makes rows of the columns and keeps
the sums of a group in a list; it counts no peers, and makes no batch.
"""

from __future__ import annotations

import gc
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import pyarrow.compute as pc

from benchmarks.errors import BenchmarkFailed
from benchmarks.estates import Data
from benchmarks.measured import Measured, Sample, Work
from benchmarks.sinking import flow_batches
from libs.common.kafka.records import Inbound
from libs.common.rows.batches import Outlet
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.rollups import ROLLUPS
from libs.common.rows.wire import decode_rows
from libs.common.settings.aggregator import PRESETS, AggregationSettings, AggregatorSettings, Preset
from libs.common.settings.kafka import TopicSettings
from services.aggregator.aggregation import Aggregation
from services.aggregator.app import Aggregator
from services.parser.flows.kernel import parse

PEER: Final = "to_pylist, dict of sums"
_ENDS: Final = "in memory"
_MEASURES: Final = ("packets_sent", "bytes_sent", "packets_received", "bytes_received")
_POSITION: Final = ("blob", "generation", "record_offset")
_COMPARED: Final = Preset.NETWORK_MAP

_Poll = Sequence[Inbound]


def measure(data: Data, repeats: int) -> Iterator[Measured]:
    """Measure each preset, and the peer with one of them."""
    polls = list(_polls(data))
    work = Work(data.tuples, data.segment_bytes)
    for preset in Preset:
        samples = tuple(_timed(partial(_by_aggregator, preset, polls), data) for _ in range(repeats))
        yield Measured(f"rollups, {preset.value}", data.name, work, samples, _ENDS, PEER if preset is _COMPARED else None)
    samples = tuple(_timed(partial(_by_dictionary, polls), data) for _ in range(repeats))
    yield Measured(PEER, data.name, work, samples, _ENDS)


def _polls(data: Data) -> Iterator[_Poll]:
    for piece in data.portions():
        batches = flow_batches(parse(piece.segments), piece.partitions, "Flows")
        yield [
            Inbound("Flows", one.partition or 0, at, 0, None, bytes(one.value or b""), one.headers)
            for at, one in enumerate(batches)
        ]


def _timed(summed: Callable[[], int], data: Data) -> Sample:
    gc.collect()
    started = time.process_time()
    tuples = summed()
    seconds = time.process_time() - started
    if tuples != data.tuples:
        raise BenchmarkFailed(f"{data.tuples} tuples became rollups of {tuples}")
    return Sample(seconds)


def _by_aggregator(preset: Preset, polls: Sequence[_Poll]) -> int:
    """Return the number of tuples in the rollups; reading them back is a small part of the time, since they are few."""
    own = AggregatorSettings()
    wanted = Aggregation.of(AggregationSettings(name=preset.value, preset=preset), TopicSettings())
    aggregator = Aggregator(Outlet("Errors", own.batch_bytes, own.dead_letter_limit), [wanted])
    batches = (out.value or b"" for poll in polls for out in aggregator.handle(poll))
    return sum(pc.sum(decode_rows(ROLLUPS, one)["tuples"]).as_py() for one in batches)


def _by_dictionary(polls: Sequence[_Poll]) -> int:
    sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * (len(_MEASURES) + 1))
    grouped_by = (*_POSITION, *PRESETS[_COMPARED])
    for message in (message for poll in polls for message in poll):
        flows = decode_rows(FLOWS, message.value or b"")
        minutes = pc.floor_temporal(flows["time"], unit="minute")
        for row in flows.set_column(0, "time", minutes).to_pylist():
            found = sums[(row["time"], *(row[name] for name in grouped_by))]
            for at, name in enumerate(_MEASURES):
                found[at] += row[name] or 0
            found[-1] += 1
    return sum(found[-1] for found in sums.values())
