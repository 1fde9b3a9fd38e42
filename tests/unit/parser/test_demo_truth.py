"""The kernel against generated logs, of which every tuple is known."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from libs.common.messages.segments import Segment, SegmentFormat
from libs.demo.commits import collect
from libs.demo.estate import Estate
from libs.demo.spec import EstateSpec
from services.parser.flows.kernel import parse
from tests.flows import values_of


@pytest.mark.parametrize(("nics", "tuples"), [(24, 10), (3, 1200)])
def test_generated_logs_give_exactly_the_generated_tuples(nics: int, tuples: int) -> None:
    """Blobs of all formats, parsed together, give every generated tuple once with its position and values, and nothing else."""
    spec = EstateSpec(nics=nics, tuples_per_minute=tuples, minutes=8, start=datetime(2026, 5, 1, 12, 56, tzinfo=UTC))
    logs = collect(Estate(spec).commits())
    segments = [Segment(str(blob), "g", 0, len(data), 0, SegmentFormat.RECORDS, data) for blob, data in logs.blobs.items()]
    parsed = parse(segments)
    assert not parsed.dead_letters
    rows = values_of(parsed.batch.drop_columns(["generation"]))
    order = {str(blob): number for number, blob in enumerate(logs.blobs)}
    truth = sorted(values_of(logs.truth), key=lambda row: (order[row["blob"]], row["record_offset"], row["tuple_index"]))
    assert rows == truth
