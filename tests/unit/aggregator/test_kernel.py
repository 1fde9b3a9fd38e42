"""The kernel of the aggregator against a plain oracle."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pytest

from libs.common.errors import ConfigError
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.rollups import DIMENSIONS, MOST_PEERS, PEER_DIGITS, ROLLUPS
from libs.common.settings.aggregator import PRESETS, AggregationSettings
from libs.common.settings.kafka import TopicSettings
from services.aggregator.aggregation import Aggregation
from services.aggregator.flow_rows import FlowRows
from services.aggregator.kernel import RolledUp, roll_up
from services.aggregator.peers import address_hashes
from tests.flows import Spot, row, rows, table
from tests.rollup_oracle import rolled_up, sides
from tests.row_samples import values_of

FLOWS_OF_SEVERAL = rows(blobs=3, records=3, tuples=9)


def aggregation(**settings: Any) -> Aggregation:
    """Return an aggregation by its settings."""
    return Aggregation.of(AggregationSettings.model_validate({"name": "test", **settings}), TopicSettings())


def summed(wanted: Aggregation, content: Iterable[Mapping[str, Any]]) -> RolledUp:
    """Sum up the flows of one message."""
    return roll_up(wanted, FlowRows.of([table(content)], FLOWS.names))


def without_peers(found: RolledUp) -> list[dict[str, Any]]:
    """Return rollups as the oracle makes them."""
    return values_of(pa.Table.from_batches([found.rows]).drop_columns(["peers"]))


@pytest.mark.parametrize("window", ["1s", "1m", "1h"])
@pytest.mark.parametrize("dimensions", [*PRESETS.values(), tuple(one.name for one in DIMENSIONS), ("remote_ip",)])
def test_rollups_are_those_of_the_oracle(window: str, dimensions: tuple[str, ...]) -> None:
    """Every column but the peers, in the order of the positions, for each preset, window and dimension."""
    wanted = aggregation(dimensions=dimensions, window=window)
    found = summed(wanted, FLOWS_OF_SEVERAL)
    assert without_peers(found) == rolled_up("test", wanted.window_seconds, dimensions, FLOWS_OF_SEVERAL)
    assert found.first.tolist() == sorted(found.first.tolist())
    found.rows.validate(full=True)


def test_a_condition_chooses_the_flows_that_are_summed_up() -> None:
    """Others are counted as filtered; the position is that of the first flow that was summed up."""
    found = summed(aggregation(preset="policy", where="dst_port = 443 and action = 'allow'"), FLOWS_OF_SEVERAL)
    chosen = [flow for flow in FLOWS_OF_SEVERAL if flow["dst_port"] == 443 and flow["action"] == "allow"]
    assert without_peers(found) == rolled_up("test", 60, PRESETS["policy"], chosen)  # type: ignore[index]
    assert found.filtered == len(FLOWS_OF_SEVERAL) - len(chosen)
    nothing = summed(aggregation(preset="policy", where="dst_port = 1"), FLOWS_OF_SEVERAL)
    assert (nothing.rows.num_rows, nothing.rows.schema, nothing.filtered) == (0, ROLLUPS.schema, len(FLOWS_OF_SEVERAL))


def test_a_sum_that_does_not_fit_is_the_largest_number() -> None:
    """It neither wraps nor fails, and other groups keep their sums."""
    large = [row(Spot(0, 0, at), bytes_sent=2**62, direction="inbound", rule="a") for at in range(3)]
    small = [row(Spot(0, 0, 3), bytes_sent=7, rule="b"), row(Spot(0, 0, 4), bytes_sent=2**63 - 1, rule="c")]
    found = summed(aggregation(dimensions=["rule"]), [*large, *small])
    assert found.rows["bytes_sent"].to_pylist() == [2**63 - 1, 7, 2**63 - 1]


def test_parts_of_a_record_in_several_messages_are_summed_up_apart() -> None:
    """So what a message gives does not depend on whether the next one comes in the same poll."""
    flows = [row(Spot(0, 0, at), rule="r") for at in range(6)]
    together = roll_up(aggregation(dimensions=["rule"]), FlowRows.of([table(flows[:4]), table(flows[4:])], FLOWS.names))
    assert together.rows["tuples"].to_pylist() == [4, 2]
    assert together.rows["tuple_index"].to_pylist() == [0, 4]


def hashes(text: str | None) -> list[str]:
    """Return the hashes in a value of `peers`."""
    return [] if text is None else [text[at : at + PEER_DIGITS] for at in range(0, len(text), PEER_DIGITS)]


def test_peers_are_the_distinct_remote_addresses() -> None:
    """There are as many hashes as addresses, ascending; the same address has the same hash in any group and message."""
    found = summed(aggregation(dimensions=["direction"]), FLOWS_OF_SEVERAL)
    expected: dict[tuple[Any, ...], set[str | None]] = defaultdict(set)
    for flow in FLOWS_OF_SEVERAL:
        expected[flow["blob"], flow["record_offset"], flow["direction"]].add(sides(flow)["remote_ip"])
    for rollup in found.rows.to_pylist():
        addresses = expected[rollup["source"].removeprefix("test/"), rollup["record_offset"], rollup["direction"]]
        own = sorted(f"{one:08x}" for one in address_hashes(pa.array(list(addresses), pa.string())).tolist())
        assert hashes(rollup["peers"]) == own
        assert len(own) == len(addresses)


def test_hashes_of_addresses_do_not_change() -> None:
    """They are in stores, and rows of different versions are merged there. Neighbours of any length do not matter."""
    addresses = ["10.0.0.4", "10.0.0.40", "2001:db8::1", "255.255.255.255", "", "1.2.3.4"]
    alone = [int(address_hashes(pa.array([one], pa.string()))[0]) for one in addresses]
    assert address_hashes(pa.array(addresses, pa.string())).tolist() == alone
    assert address_hashes(pa.array(["x", *addresses], pa.string()).slice(1)).tolist() == alone
    assert [f"{one:08x}" for one in alone[:3]] == ["a928235e", "5281c983", "4e7d2737"]


def test_peers_are_null_where_there_are_none_to_count() -> None:
    """If the remote address is a dimension, each row has one; if the direction is unknown, the other side is, too."""
    unknown = [row(Spot(0, 0, at), direction=None) for at in range(3)]
    assert summed(aggregation(dimensions=["rule"]), unknown).rows["peers"].null_count == 2
    assert summed(aggregation(dimensions=["remote_ip"]), FLOWS_OF_SEVERAL).rows["peers"].null_count > 0


@pytest.mark.parametrize("count", [MOST_PEERS - 1, 5_000, 60_000])
def test_the_number_of_many_peers_can_be_estimated_after_merging(count: int) -> None:
    """The smallest hashes of any groups make those of their union; the error is within four times the stated one."""
    rng = random.Random(count)
    addresses = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in rng.sample(range(2**24), count)]
    flows = table([row(Spot(0, 0, 0))]).take(pa.array([0] * count))
    records = pa.array(sorted(rng.randrange(4) for _ in range(count)))
    for name, column in (("dst_ip", pa.array(addresses)), ("record_offset", records.cast(pa.int64()))):
        flows = flows.set_column(flows.column_names.index(name), FLOWS.schema.field(name), column)
    found = roll_up(aggregation(dimensions=["rule"]), FlowRows.of([flows], FLOWS.names))
    assert all(len(hashes(text)) <= MOST_PEERS for text in found.rows["peers"].to_pylist())
    merged = sorted({one for text in found.rows["peers"].to_pylist() for one in hashes(text)})[:MOST_PEERS]
    estimate = len(merged) if len(merged) < MOST_PEERS else (MOST_PEERS - 1) * 2**32 / int(merged[-1], 16)
    assert abs(estimate - count) <= (0 if count < MOST_PEERS else 4 * count / (MOST_PEERS - 2) ** 0.5)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"dimensions": ["rulle"]},
            "aggregations, test: unknown dimension rulle; did you mean rule.*; known dimensions are local_ip",
        ),
        ({"preset": "policy", "where": "acton = 'deny'"}, "aggregations, test, where: condition .*unknown column acton"),
    ],
)
def test_a_wrong_aggregation_is_named(settings: dict[str, Any], problem: str) -> None:
    """The message says which aggregation, what is wrong, and what would be right."""
    with pytest.raises(ConfigError, match=problem):
        aggregation(**settings)
