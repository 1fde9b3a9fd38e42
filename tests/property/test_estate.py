"""Estates of any shape."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.demo.commits import collect
from libs.demo.estate import Estate
from libs.demo.spec import EstateSpec, LogKind, Style
from tests import flow_text
from tests.flows import values_of

specs = st.builds(
    EstateSpec,
    seed=st.integers(0, 2**63 - 1),
    nics=st.integers(1, 9),
    tuples_per_minute=st.floats(1, 700),
    kinds=st.lists(st.sampled_from(LogKind), min_size=1, max_size=4).map(tuple),
    start=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds it
    minutes=st.integers(1, 3),
    upgrade_after=st.none() | st.integers(0, 3),
    style=st.sampled_from(Style),
)


@settings(max_examples=15)
@given(specs)
def test_truth_and_text_agree_for_any_spec(spec: EstateSpec) -> None:
    """Whatever the spec, the truth names every tuple of the blobs with its position and values, per blob in document order."""
    logs = collect(Estate(spec).commits())
    expected = {row_key(row): row for blob, data in logs.blobs.items() for row in flow_text.rows(str(blob), data)}
    found = values_of(logs.truth)
    assert {row_key(row): row for row in found} == expected
    assert len(found) == len(expected)
    keys = [row_key(row) for row in found]
    for blob in logs.blobs:
        of_blob = [key for key in keys if key[0] == str(blob)]
        assert of_blob == sorted(of_blob)


def row_key(row: dict[str, Any]) -> tuple[str, int, int]:
    """Return the position of a row."""
    return row["blob"], row["record_offset"], row["tuple_index"]
