"""The kernel of logs in this process, from segments to encoded batches, and a plain extractor on the same bytes."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

from benchmarks import plain_logs
from benchmarks.errors import BenchmarkFailed
from benchmarks.estates import Data, Piece
from benchmarks.measured import Measured, Sample, Work
from libs.common.messages.segments import Segment
from libs.common.rows.types.spans import SPANS
from libs.common.settings.parser import ParserSettings
from services.parser.batches import encoded
from services.parser.extraction import Arrived
from services.parser.logs.kernel import LogKernel
from services.parser.logs.options import LogOptions

WHOLE: Final = "lines to columns, encode"
PLAIN: Final = "json, dict"
_ENDS: Final = "in memory"
_PEER_SEGMENTS: Final = 40  # the peer is slow


def measure(data: Data, repeats: int) -> Iterator[Measured]:
    """Measure the kernel and its peer."""
    pieces = list(data.portions())
    kernel = LogKernel(LogOptions(), is_proxy_stream=True)
    samples = tuple(Sample(_pass(kernel, pieces, data.tuples)) for _ in range(repeats + 1))[1:]  # the first learns the shapes
    yield Measured(WHOLE, data.name, Work(data.tuples, data.segment_bytes), samples, _ENDS, PLAIN)
    some = list(islice(data.segments, _PEER_SEGMENTS))
    lines = sum(segment.data.count(b"\n") for segment in some)
    work = Work(lines, sum(len(segment.data) for segment in some))
    yield Measured(PLAIN, data.name, work, tuple(Sample(_cpu(plain_logs.rows, some)) for _ in range(repeats)), _ENDS)


def _pass(kernel: LogKernel, pieces: list[Piece], lines: int) -> float:
    limit = ParserSettings().batch_bytes
    rows = 0
    started = time.process_time()
    for piece in pieces:
        found = kernel.extract(Arrived(piece.segments, [0] * len(piece.segments)), 0)
        for table in found.tables:
            encoded_rows = sum(part.rows for _, part in encoded(table, piece.partitions, limit))
            rows += 0 if table.row_type is SPANS else encoded_rows
    seconds = time.process_time() - started
    if rows != lines:
        raise BenchmarkFailed(f"{lines} lines became {rows} rows")
    return seconds


def _cpu(extract: Callable[[Segment], Any], segments: Iterable[Segment]) -> float:
    gc.collect()
    started = time.process_time()
    for segment in segments:
        extract(segment)
    return time.process_time() - started
