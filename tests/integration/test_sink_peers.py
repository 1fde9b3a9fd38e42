"""What the benchmarks compare sinks with writes all rows, at the real server of the sink."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from benchmarks import estates, sink_peers
from benchmarks.destinations import SINKS, Destination
from benchmarks.site import Site
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from tests.contract.harness import module_of
from tests.contract.peers import Takes
from tests.fixtures.servers import serving

# Servers that other tests share; the others start at once.
SHARED = {
    "clickhouse": "clickhouse",
    "elasticsearch": "opensearch",
    "etcd": "etcd_server",
    "eventhub": "event_hubs",
    "influxdb": "influxdb",
    "mqtt": "mosquitto",
    "postgres": "postgres",
    "redis": "redis_server",
    "snowflake": "snowflake",
}
KINDS = [pytest.param(kind, marks=getattr(module_of(kind), "MARKS", ())) for kind in SINKS]


@pytest.mark.parametrize("kind", KINDS)
def test_peers_write_every_row(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A peer of a kind gets all acknowledgements and, where the destination can be asked, has all rows there."""
    make = SINKS[kind].server
    own = None if make is None or kind in SHARED else make(tmp_path / "server")
    data = estates.quiet(1, nics=40)
    site = Site(tmp_path, TopicSettings(), KafkaSettings(group_prefix="bench_peers"))
    with nullcontext() if own is None else serving(own):
        server: Any = request.getfixturevalue(SHARED[kind]) if kind in SHARED else own
        found = list(sink_peers.measure(site, Destination(kind, server), data, repeats=1))
    assert [one.stage for one in found] == [f"{kind}: {peer.name}" for peer in SINKS[kind].peers]
    for one, peer in zip(found, SINKS[kind].peers, strict=True):
        assert one.work.tuples == data.tuples
        assert one.cpu > 0
        assert one.against == (f"sink {kind}" if peer.takes is Takes.BYTES else None)
