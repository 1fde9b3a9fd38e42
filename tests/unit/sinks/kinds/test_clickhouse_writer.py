"""The ClickHouse writer's arithmetic: where batches are cut, how rows are told apart, which times fit."""

from __future__ import annotations

from itertools import accumulate, pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.rows.types.flows import FLOWS
from services.sinks.kinds.clickhouse.places import RowPlaces
from services.sinks.kinds.clickhouse.writer import cut, untimely
from tests.flows import Spot, row, rows, table

MESSAGES = st.lists(st.integers(0, 30), min_size=1, max_size=20)
SPOTS = st.builds(Spot, st.integers(0, 2), st.integers(0, 3), st.integers(0, 2), st.integers(0, 1))


def ends_of(sizes: list[int]) -> list[int]:
    """Return where messages of these sizes end."""
    return list(accumulate(sizes))


def cuts(sizes: list[int], most: int) -> list[tuple[int, int]]:
    """Return the first and the end of each insert of messages of which all rows are given."""
    return [(int(some[0]), int(some[-1]) + 1) for some in cut(ends_of(sizes), np.arange(sum(sizes)), most)]


@given(MESSAGES, st.integers(1, 40), st.data())
def test_every_row_is_in_one_insert_of_whole_messages(sizes: list[int], most: int, data: st.DataObject) -> None:
    """The given rows come in order, each once; an insert has at most `most`, and ends inside a message only if it must."""
    given_rows = np.array(sorted(data.draw(st.sets(st.integers(0, max(0, sum(sizes) - 1))))), np.int64)
    given_rows = given_rows[given_rows < sum(sizes)]
    inserts = list(cut(ends_of(sizes), given_rows, most))
    assert np.concatenate([*inserts, np.array([], np.int64)]).tolist() == given_rows.tolist()
    assert all(0 < len(some) <= most for some in inserts)
    ends = {0, *ends_of(sizes)}
    for start, end in cuts(sizes, most):
        inside_larger = any(size > most and last - size < end < last for size, last in zip(sizes, ends_of(sizes), strict=True))
        assert end in ends or inside_larger, (start, end)


@given(MESSAGES, MESSAGES, st.integers(1, 40))
def test_a_longer_batch_is_cut_alike_as_far_as_the_shorter_goes(first: list[int], more: list[int], most: int) -> None:
    """A batch that begins where another began has the same inserts, except for the last one of the shorter."""
    shorter, longer = cuts(first, most), cuts(first + more, most)
    assert longer[: max(0, len(shorter) - 1)] == shorter[:-1]


def test_small_messages_go_together_until_they_are_enough() -> None:
    """Messages are put together up to `most` rows; a larger one is cut."""
    assert cuts([4, 4, 4, 30, 1, 1], 10) == [(0, 8), (8, 12), (12, 22), (22, 32), (32, 42), (42, 44)]


@given(st.lists(SPOTS, min_size=1, max_size=30))
def test_places_are_what_the_rows_say(spots: list[Spot]) -> None:
    """Positions in columns are those of the rows, and each position has one first row."""
    content = [row(spot) for spot in spots]
    places = RowPlaces.of(table(content), FLOWS.position)
    positions = places.take(np.arange(len(content)))
    expected = [(one["blob"], one["generation"], one["record_offset"], one["tuple_index"]) for one in content]
    assert list(zip(*(positions.column(name).to_pylist() for name in "sgoi"), strict=True)) == expected
    assert places.first_times().tolist() == [position not in expected[:number] for number, position in enumerate(expected)]
    highest: dict[tuple[str, str], tuple[int, int]] = {}
    for source, generation, *position in expected:
        highest[source, generation] = max(highest.get((source, generation), (-1, -1)), (position[0], position[1]))
    assert dict(places.highest()) == highest
    limit = min(highest.values())
    assert places.above([limit] * len(places.sources)).tolist() == [(one[2], one[3]) > limit for one in expected]


@given(st.lists(SPOTS, min_size=2, max_size=20, unique=True), st.integers(0, 19), st.integers(1, 20))
def test_a_token_is_of_rows_not_of_batches(spots: list[Spot], start: int, length: int) -> None:
    """The same rows have the same token in any batch; other rows, another order and other columns have others."""
    whole = RowPlaces.of(table([row(spot) for spot in spots]), FLOWS.position)
    some = np.arange(start, min(start + length, len(spots)))
    if not len(some):
        return
    alone = RowPlaces.of(table([row(spots[number]) for number in some]), FLOWS.position)
    token = whole.token(some, "columns")
    assert token == alone.token(np.arange(len(some)), "columns")
    assert token != whole.token(some, "others")
    assert token != whole.token(some[:-1], "columns")
    if len(some) > 1:
        assert token != whole.token(some[::-1], "columns")


@pytest.mark.parametrize(
    ("unit", "fits", "outside"),
    [
        ("s", (-2_208_988_800, 10_413_791_999), (-2_208_988_801, 10_413_792_000)),
        ("ms", (-2_208_988_800_000, 10_413_791_999_999), (-2_208_988_800_001, 10_413_792_000_000)),
        ("ns", (-2_208_988_800_000_000_000, 2**63 - 2), (-2_208_988_800_000_000_001,)),
    ],
)
def test_times_that_the_server_would_change_are_refused(unit: str, fits: tuple[int, ...], outside: tuple[int, ...]) -> None:
    """Times from 1900 to 2299 fit; others, which a server would silently replace, are named with their column."""
    values = [None, *fits, *outside]
    column = pa.array(values, pa.timestamp(unit, tz="UTC"))
    refused = untimely(pa.table({"n": pa.array(range(len(values))), "at": column}))
    assert [bad.row for bad in refused] == list(range(1 + len(fits), len(values)))
    assert all("column at is outside" in bad.reason for bad in refused)
    assert untimely(pa.table({"at": column.slice(0, 1 + len(fits))})) == []


def test_sources_ascend_in_the_flows_of_these_tests() -> None:
    """The rows that other tests take for granted come in order, so that no batch of them is a replay."""
    places = RowPlaces.of(table(rows()), FLOWS.position)
    assert all(places.first_times())
    for number in range(len(places.sources)):
        mine = places.source == number
        positions = list(zip(places.offset[mine].tolist(), places.index[mine].tolist(), strict=True))
        assert all(before < after for before, after in pairwise(positions))
