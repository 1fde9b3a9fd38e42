"""The streams that the parser reads: which kernel turns the segments of each into rows, and where these go.

A stream is read from its raw topic. Its rows go to the topics of their types, on the partition of their segment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.types.flows import FLOWS
from services.parser.extraction import Arrived, Extraction, Kernel, TypedRows
from services.parser.flows.kernel import parse

PARSE_BYTES: Final = 4_194_304
"""Bytes that are parsed together: each parse has a fixed cost, but beyond this there is nothing more to gain."""


@dataclass(frozen=True, slots=True)
class InputStream:
    """One stream: its kernel, and the topic of each row type by name."""

    kernel: Kernel
    topics: Mapping[str, str]


class FlowKernel:
    """Flow logs."""

    def extract(self, arrived: Arrived, most_letters: float) -> Extraction:
        """See `Kernel`."""
        parsed = parse(arrived.segments, arrived.source_of, most_letters)
        rows = TypedRows(FLOWS, parsed.batch, parsed.segment_rows)
        newest = pc.max(parsed.batch["record_time"].cast(pa.int64())).as_py()
        return Extraction((rows,), parsed.segment_rows, parsed.dead_letters, parsed.records, newest=newest)
