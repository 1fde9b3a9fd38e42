"""Rows of segments as the batches of their partitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from libs.common.rows.batches import Encoded, slices
from services.parser.extraction import TypedRows


def encoded(rows: TypedRows, partitions: Sequence[int], limit: int) -> Iterator[tuple[int, Encoded]]:
    """Encode rows as batches of at most `limit` bytes, each with its partition, given the `partitions` of the segments."""
    start = 0
    for partition, segments in groupby(zip(partitions, rows.segment_rows.tolist(), strict=True), key=itemgetter(0)):
        count = sum(of_segment for _, of_segment in segments)
        for part in slices(rows.row_type, rows.batch.slice(start, count), limit):
            yield partition, part
        start += count
