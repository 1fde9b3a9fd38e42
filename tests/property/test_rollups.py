"""Rollups depend on records alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.kafka.records import Inbound
from libs.common.rows.batches import Outlet
from libs.common.rows.types.rollups import ROLLUPS
from libs.common.rows.wire import decode_rows
from services.aggregator.app import Aggregator
from tests.flows import START_MS, Spot, row
from tests.rollup_oracle import COUNTERS, rolled_up
from tests.row_samples import values_of
from tests.unit.aggregator.test_app import message
from tests.unit.aggregator.test_kernel import aggregation

DIMENSIONS = ("local_ip", "dst_port", "action", "rule")
RECORD = itemgetter("blob", "generation", "record_offset")
COUNTS = st.none() | st.sampled_from([0, 1, 1_500, 2**62])
CHANGES = {
    "time": st.integers(START_MS - 200_000, START_MS + 200_000),  # late and out of order
    "src_ip": st.sampled_from(["10.0.0.4", "10.0.0.5", "2001:db8::1"]),
    "dst_ip": st.sampled_from(["10.0.0.4", "52.0.0.1"]),
    "direction": st.sampled_from([None, "inbound", "outbound", "X"]),
    "action": st.sampled_from([None, "allow", "deny"]),
    "state": st.sampled_from([None, "begin", "continuing", "end", "deny"]),
    "rule": st.sampled_from([None, "", "a", "b"]),
    "dst_port": st.sampled_from([0, 443]),
    **dict.fromkeys(COUNTERS, COUNTS),
}
Flow = dict[str, Any]


@st.composite
def messages(draw: st.DrawFn) -> list[Inbound]:
    """Records of several blobs and generations in messages of some records each; a blob is always on the same partition."""
    made: list[Inbound] = []
    offsets = [0, 0]
    for number in range(draw(st.integers(1, 5))):
        partition = draw(st.integers(0, 1))
        content: list[Flow] = []
        for place in range(draw(st.integers(0, 3))):
            spot = Spot(partition + 2 * draw(st.integers(0, 1)), number * 10 + place, 0, draw(st.integers(0, 1)))
            tuples = draw(st.lists(st.fixed_dictionaries(CHANGES), min_size=1, max_size=5))
            content += [row(Spot(spot.blob, spot.record, at, spot.generation), **one) for at, one in enumerate(tuples)]
        made.append(message(partition, offsets[partition], content))
        offsets[partition] += 1
    return made


def rollups(polls: Iterable[Sequence[Inbound]]) -> dict[int, list[Flow]]:
    """Return the rollups of an aggregator by partition, in the order in which they leave."""
    made = Aggregator(Outlet("Errors", 100_000, 0.5), [aggregation(dimensions=DIMENSIONS, window="1s")])
    found: dict[int, list[Flow]] = {}
    for poll in polls:
        for out in made.handle(poll):
            assert out.partition is not None
            found.setdefault(out.partition, []).extend(values_of(decode_rows(ROLLUPS, out.value or b"")))
    return found


@settings(max_examples=50)
@given(messages(), st.data())
def test_rollups_are_the_same_in_any_polls(polled: list[Inbound], data: st.DataObject) -> None:
    """Each message alone, all in one poll, or divided anyhow: the same rows in the same order; so in a replay, too."""
    cuts = sorted({0, len(polled), *data.draw(st.lists(st.integers(0, len(polled)), max_size=3))})
    alone = rollups([one] for one in polled)
    assert rollups([polled]) == alone
    assert rollups(polled[start:end] for start, end in pairwise(cuts)) == alone


@settings(max_examples=50)
@given(st.lists(st.fixed_dictionaries(CHANGES), min_size=1, max_size=12), st.randoms())
def test_the_rows_of_a_window_add_up_whatever_comes_late(tuples: list[Flow], random: Any) -> None:
    """The sums over all rollups of a window are those of its flows, in whichever records and order these come."""
    random.shuffle(tuples)
    flows = [row(Spot(0, at // 3, at % 3), **one) for at, one in enumerate(tuples)]
    found = rollups([[message(0, 0, flows)]])[0]
    assert [{**one, "peers": None} for one in found] == [
        {**one, "peers": None} for one in rolled_up("test", 1, DIMENSIONS, flows)
    ]
    for _, group in groupby(found, key=itemgetter("source", "generation")):
        places = [(one["record_offset"], one["tuple_index"]) for one in group]
        assert places == sorted(set(places))
    for counter in (name for name in COUNTERS if all((flow[name] or 0) < 2**40 for flow in flows)):
        windows = {flow["time"] // 1_000 * 1_000 for flow in flows}
        for window in windows:
            summed = sum(one[counter] or 0 for one in found if one["time"] == window)
            assert summed == sum(flow[counter] or 0 for flow in flows if flow["time"] // 1_000 * 1_000 == window)
    assert sum(one["tuples"] for one in found) == len(flows)
    assert pa.Table.from_pylist(found, schema=ROLLUPS.schema).num_rows == len(found)
