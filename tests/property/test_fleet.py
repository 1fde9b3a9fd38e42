"""Application logs of any spec."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.messages.blobs import BlobId
from libs.demo.applogs.fleet import Fleet, collect
from libs.demo.applogs.spec import LogSpec
from tests import log_text

specs = st.builds(
    LogSpec,
    seed=st.integers(0, 2**63 - 1),
    pods=st.integers(1, 40),
    lines_per_minute=st.floats(1, 60),
    start=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds it
    minutes=st.integers(1, 4),
)


@settings(max_examples=12)
@given(specs)
def test_truth_and_text_agree_for_any_spec(spec: LogSpec) -> None:
    """Whatever the spec, the truth names every line of the blobs with its position and fields, per blob in order."""
    logs = collect(Fleet(spec).appends())
    expected = [row for blob, data in logs.blobs.items() for row in log_text.rows(str(blob), data)]
    found = log_text.stated(logs.truth)
    assert sorted(found, key=place) == sorted(expected, key=place)
    for blob in logs.blobs:
        offsets = [row["line_offset"] for row in found if row["blob"] == str(blob)]
        assert offsets == sorted(offsets)


def place(row: dict[str, Any]) -> tuple[str, int]:
    """Return the position of a line."""
    return row["blob"], row["line_offset"]


@settings(max_examples=6)
@given(specs)
def test_a_spec_gives_the_same_appends_every_time(spec: LogSpec) -> None:
    """Each append begins where the one before it in its blob ends, is a complete member, and is made soon after its minute."""
    sizes: dict[BlobId, int] = {}
    first = [(append.blob, append.offset, append.data) for append in Fleet(spec).appends()]
    assert first == [(append.blob, append.offset, append.data) for append in Fleet(spec).appends()]
    for append in Fleet(spec).appends():
        assert append.offset == sizes.get(append.blob, 0)
        assert len(log_text.members(append.data)) == 1
        assert append.due - spec.start < timedelta(minutes=(spec.minutes or 0) + 2)
        sizes[append.blob] = append.offset + append.size
