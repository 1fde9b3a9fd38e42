"""The parser's kernel in this process, from segments to encoded flow batches by phase, and plain peers on the same bytes."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import plain
from benchmarks.errors import BenchmarkFailed
from benchmarks.estates import Data, Piece
from benchmarks.measured import Measured, Sample, Work
from libs.common.messages.segments import Segment
from libs.common.rows.types.flows import FLOWS
from libs.common.settings.parser import ParserSettings
from services.parser.batches import encoded
from services.parser.extraction import TypedRows
from services.parser.flows.gathering import gather
from services.parser.flows.kernel import parse
from services.parser.letters import no_source

WHOLE: Final = "decode, columns, encode"
PLAIN: Final = "json, split, dict"
_ENDS: Final = "in memory"
_PEER_TUPLES: Final = 100_000  # the peers are slow


@dataclass(frozen=True, slots=True)
class _Phases:
    """The CPU seconds of one pass."""

    decode: float
    columns: float
    encode: float


def measure(data: Data, repeats: int) -> Iterator[Measured]:
    """Measure the kernel and its peers."""
    pieces = list(data.portions())
    passes = [_pass(pieces, data.tuples) for _ in range(repeats)]
    work = Work(data.tuples, data.segment_bytes)

    def row(stage: str, cost: Callable[[_Phases], float], against: str | None = None) -> Measured:
        return Measured(stage, data.name, work, tuple(Sample(cost(one)) for one in passes), _ENDS, against)

    yield row("decode", lambda one: one.decode, "json.loads alone")
    yield row("columns", lambda one: one.columns)
    yield row("encode", lambda one: one.encode)
    yield row(WHOLE, lambda one: one.decode + one.columns + one.encode, PLAIN)
    yield from _peers(data, repeats)


def _pass(pieces: list[Piece], tuples: int) -> _Phases:
    """Process all pieces once; decoding is measured separately, since parsing is a single call."""
    decode = parsing = encode = 0.0
    rows = 0
    limit = ParserSettings().batch_bytes
    for piece in pieces:
        started = time.process_time()
        gather(piece.segments, no_source)
        decoded = time.process_time()
        parsed = parse(piece.segments)
        columns = time.process_time()
        typed = TypedRows(FLOWS, parsed.batch, parsed.segment_rows)
        rows += sum(part.rows for _, part in encoded(typed, piece.partitions, limit))
        ended = time.process_time()
        decode, parsing, encode = decode + decoded - started, parsing + columns - decoded, encode + ended - columns
    if rows != tuples:
        raise BenchmarkFailed(f"{tuples} tuples became {rows} rows")
    return _Phases(decode, parsing - decode, encode)


def _peers(data: Data, repeats: int) -> Iterator[Measured]:
    segments = list(_first(data.segments, _PEER_TUPLES * data.segment_bytes // data.tuples))
    tuples = sum(len(plain.rows(segment)) for segment in segments)
    work = Work(tuples, sum(len(segment.data) for segment in segments))
    for stage, parser in ((PLAIN, plain.rows), ("json.loads alone", plain.documents)):
        samples = tuple(Sample(_cpu(parser, segments)) for _ in range(repeats))
        yield Measured(stage, data.name, work, samples, _ENDS)


def _cpu(parser: Callable[[Segment], Any], segments: Iterable[Segment]) -> float:
    gc.collect()
    started = time.process_time()
    for segment in segments:
        parser(segment)
    return time.process_time() - started


def _first(segments: Iterable[Segment], size: int) -> Iterator[Segment]:
    """Yield segments of about `size` bytes in total, at least one."""
    for segment in segments:
        yield segment
        size -= len(segment.data)
        if size <= 0:
            return
