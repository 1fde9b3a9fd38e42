"""The eventhub sink's destination: an event hub of its own in a stand-in for Event Hubs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from libs.common.kafka.topics.making import make_topic
from services.sinks.records.sink import POSITION_PARTITIONS
from tests.contract.harness import Benchmark, Case, Harness
from tests.contract.harnesses.kafka import KafkaHarness
from tests.contract.peers import Options, one_by_one
from tests.event_hubs import HUB, LocalEventHubs
from tests.kafka_target import KEY_AND_HEADERS, produce

MODES = ("idempotent", "transactional")
WITHOUT_TLS = {
    "connection_string": "Endpoint=sb://space.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey=c2VjcmV0;EntityPath=rows",
    "tls": False,
}
MARKS = pytest.mark.kafka


class EventHubHarness(KafkaHarness):
    """Events; only in transactions each row is there once."""

    def __init__(self, case: Case, server: LocalEventHubs) -> None:
        self.hubs = server
        super().__init__(case, server)
        make_topic(self.pipeline().kafka, self.positions, POSITION_PARTITIONS, {"cleanup.policy": "compact"})

    def options(self) -> dict[str, Any]:
        """Sign in as in Azure."""
        return {**super().options(), **self.hubs.connection(), "librdkafka": {"message.timeout.ms": "10000"}}


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give an empty event hub."""
    return EventHubHarness(case, request.getfixturevalue("event_hubs"))


def _produce(options: Options, rows: Iterable[bytes], **more: Any) -> int:
    login = {"sasl.mechanism": "PLAIN", "sasl.username": "$ConnectionString", "sasl.password": options["connection_string"]}
    tls = {"security.protocol": "SASL_SSL", "ssl.ca.location": options["ssl_ca_location"]}
    return produce({"bootstrap.servers": options["namespace"], **login, **tls}, rows, **more)


BENCHMARK = Benchmark(
    "events acknowledged, offsets committed",
    own="positions_topic",  # of no importance without transactions: all write to one hub
    server=LocalEventHubs,
    options=lambda server: {**server.connection(), "topic": HUB},
    count=lambda server, _: server.committed_records(),
    peers=one_by_one("produce", _produce, partial(_produce, **KEY_AND_HEADERS)),
)
