"""The aggregator's transform: messages in, messages out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from prometheus_client import REGISTRY

from libs.common.errors import ConfigError, DeadLetterLimit
from libs.common.kafka.records import Inbound
from libs.common.rows.batches import Outlet
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.rollups import ROLLUPS
from libs.common.rows.wire import decode_rows, encode_rows, row_headers
from libs.common.settings import Settings
from libs.common.settings.aggregator import AggregatorSettings
from libs.common.settings.kafka import KafkaSettings
from services.aggregator.app import Aggregator
from services.aggregator.main import build
from tests.flows import rows
from tests.rollup_oracle import rolled_up
from tests.row_samples import values_of
from tests.unit.aggregator.test_kernel import aggregation

OUTLET = Outlet("Errors", batch_bytes=1_000_000, dead_letter_limit=0.5)
DIMENSIONS = ("local_ip", "direction")


def aggregator(outlet: Outlet = OUTLET) -> Aggregator:
    """Return an aggregator of two aggregations, one of which chooses flows."""
    by_rule = replace(aggregation(dimensions=["rule"], window="1h", where="dst_port <> 53"), name="by_rule", topic="Hours")
    return Aggregator(outlet, [replace(aggregation(dimensions=DIMENSIONS), topic="Minutes"), by_rule])


def message(partition: int, offset: int, content: Sequence[Mapping[str, Any]]) -> Inbound:
    """Return flows as a message."""
    batch = pa.RecordBatch.from_pylist(list(map(dict, content)), schema=FLOWS.schema)
    return Inbound("Flows", partition, offset, 0, None, encode_rows(FLOWS, batch).to_pybytes(), row_headers(FLOWS))


def blob(number: int) -> list[dict[str, Any]]:
    """Return the flows of one of several blobs."""
    return [flow for flow in rows(blobs=4, records=2, tuples=5) if f"nic={number}" in flow["blob"]]


def test_rollups_of_each_aggregation_leave_on_the_partition_of_their_flows() -> None:
    """There is one batch a partition and aggregation, in order, with the headers of such batches."""
    polled = [message(2, 0, blob(0)), message(0, 0, blob(1)), message(2, 1, blob(2)), message(1, 0, [])]
    outputs = aggregator().handle(polled)
    assert [(out.topic, out.partition) for out in outputs] == [("Minutes", 0), ("Minutes", 2), ("Hours", 0), ("Hours", 2)]
    found = [decode_rows(ROLLUPS, out.value or b"") for out in outputs]
    for at, flows in ((0, blob(1)), (1, blob(0) + blob(2))):
        assert values_of(found[at].drop_columns(["peers"])) == rolled_up("test", 60, DIMENSIONS, flows)
        chosen = [flow for flow in flows if flow["dst_port"] != 53]
        assert values_of(found[at + 2].drop_columns(["peers"])) == rolled_up("by_rule", 3_600, ("rule",), chosen)
    assert [dict(out.headers)["rows"] for out in outputs] == [str(one.num_rows).encode() for one in found]


def test_what_is_no_batch_of_flows_is_a_dead_letter() -> None:
    """It goes to Errors with its bytes and coordinates, beside the rollups of the others, and is counted when committed."""
    before = REGISTRY.get_sample_value("blobtide_aggregator_dead_letters_total") or 0
    made = aggregator()
    outputs = made.handle([Inbound("Flows", 0, 7, 0, b"key", b"junk", ()), *(message(0, 8 + at, blob(0)) for at in range(2))])
    (letter,) = [out for out in outputs if out.topic == "Errors"]
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (b"key", b"junk")
    assert (headers["stage"], headers["code"], headers["source-offset"]) == (b"aggregator", b"bad_message", b"7")
    assert len(outputs) == 3
    made.committed()
    assert REGISTRY.get_sample_value("blobtide_aggregator_dead_letters_total") == before + 1


def test_too_many_bad_messages_stop_the_aggregator() -> None:
    """A topic of something else is not drained into Errors."""
    with pytest.raises(DeadLetterLimit):
        aggregator().handle([Inbound("Flows", 0, at, 0, None, b"junk", ()) for at in range(200)])


def test_large_results_are_cut_to_what_the_topic_takes() -> None:
    """Batches stay below the limit of their topic, and together they are the whole."""
    flows = rows(blobs=1, records=300, tuples=5)
    whole = aggregator().handle([message(0, 0, flows)])
    cut = aggregator(replace(OUTLET, room=lambda _: 20_000)).handle([message(0, 0, flows)])
    assert all(len(out.value or b"") <= 20_000 for out in cut)
    for topic in ("Minutes", "Hours"):
        one, several = (
            pa.concat_tables(decode_rows(ROLLUPS, out.value or b"") for out in outputs if out.topic == topic)
            for outputs in (whole, cut)
        )
        assert len([out for out in cut if out.topic == topic]) > 1
        assert values_of(several) == values_of(one)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "nothing to sum up: set aggregator.aggregations"),
        ({"aggregations": [{"preset": "policy", "topic": "Errors"}]}, "the topic Errors is used for something else"),
        ({"aggregations": [{"preset": "policy"}], "batch_bytes": 8_000_000}, "aggregator.batch_bytes must fit in kafka"),
        ({"aggregations": [{"name": "x", "dimensions": ["nothing"]}]}, "aggregations, x: unknown dimension nothing"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], problem: str) -> None:
    """What is wrong is said before anything is connected."""
    kafka = KafkaSettings(message_max_bytes=8_000_000)
    with pytest.raises(ConfigError, match=problem):
        build(Settings(kafka=kafka, aggregator=AggregatorSettings.model_validate(settings)))
    build(Settings(kafka=kafka, aggregator=AggregatorSettings.model_validate({"aggregations": [{"preset": "network"}]})))
