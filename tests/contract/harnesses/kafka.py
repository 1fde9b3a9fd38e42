"""The kafka sink's destination: a topic of its own in a real Kafka, read as a careful consumer does."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from libs.common.kafka.topics.making import make_topic
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings
from libs.local.kafka import LocalKafka
from tests.contract.harness import Benchmark, Case, Content, Harness, Row
from tests.contract.peers import Options, one_by_one
from tests.flows import Spot
from tests.kafka_target import KEY_AND_HEADERS, TOPIC, TargetKafka, produce
from tests.row_samples import document, position_of, row, text_column
from tests.topic_tools import read_compacted

MODES = ("transactional", "idempotent")
MARKS = pytest.mark.kafka
PARTITIONS = 3
_MOST_BYTES = 1_000_000


class KafkaHarness(Harness):
    """Records; only in transactions each row is there once."""

    @property
    def is_ordered(self) -> bool:
        """Rows of a source stay in order."""
        return True

    def __init__(self, case: Case, server: LocalKafka) -> None:
        super().__init__(case)
        self.server = server
        self.topic = f"rows.{uuid4().hex[:12]}"
        self.positions = f"positions.{self.topic}"
        make_topic(self.pipeline().kafka, self.topic, PARTITIONS, {"max.message.bytes": str(_MOST_BYTES)})
        self.sink().setup()

    def options(self) -> dict[str, Any]:
        """Give up soon on a commit."""
        return {"topic": self.topic, "delivery": self.case.mode, "positions_topic": self.positions}

    def pipeline(self) -> Settings:
        """Join a pipeline on the same Kafka."""
        return Settings(kafka=KafkaSettings(bootstrap_servers=self.server.bootstrap_servers, group_prefix=self.topic))

    def read(self) -> Content:
        """Read all committed records; the rows of one source stand in order, and in one partition."""
        content: Content = {}
        last: dict[Any, tuple[int, int, int]] = {}
        for partition, headers, values in self.records():
            position = position_of(self.case.row_type, values)
            *generation, offset, index = position
            assert headers["row-type"] == self.case.row_type.name.encode()
            assert headers["id"].endswith(f"-{offset}-{index}".encode())
            if self.case.mode == "transactional":
                assert position not in content
                assert last.get(tuple(generation), (partition, -1, -1)) < (partition, offset, index)
            assert last.get(tuple(generation), (partition,))[0] == partition
            last[tuple(generation)] = partition, offset, index
            assert content.setdefault(position, values) == values
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, flat."""
        return {position_of(self.case.row_type, row): document(self.case.row_type, row) for row in rows}

    def refused(self) -> Row:
        """Return a row whose record is larger than its topic takes, even compressed."""
        return row(
            self.case.row_type,
            Spot(8, 0, 0),
            **{text_column(self.case.row_type): random.Random(0).randbytes(_MOST_BYTES).hex()},
        )

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Kill the broker."""
        self.server.kill()
        try:
            yield
        finally:
            self.server.start()

    def records(self) -> Iterator[tuple[int, dict[str, bytes], dict[str, Any]]]:
        """Yield all committed records: partition, headers, and values."""
        kafka = KafkaSettings(bootstrap_servers=self.server.bootstrap_servers)
        # To the ends beyond transactions that are committed while their markers are still being written.
        for message in read_compacted(kafka, self.topic, range(PARTITIONS)):
            yield message.partition, dict(message.headers), json.loads(message.value or b"")


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give an empty topic."""
    return KafkaHarness(case, request.getfixturevalue("kafka"))


def _produce(options: Options, rows: Iterable[bytes], **more: Any) -> int:
    return produce({"bootstrap.servers": options["cluster"]["bootstrap_servers"], "compression.type": "lz4"}, rows, **more)


BENCHMARK = Benchmark(
    "records committed, offsets committed",
    own="positions_topic",  # all write to one topic
    server=TargetKafka,
    options=lambda server: {"cluster": {"bootstrap_servers": server.bootstrap_servers}, "topic": TOPIC},
    needs_setup=True,
    count=lambda server, _: server.committed_records(),
    peers=one_by_one("produce", _produce, partial(_produce, **KEY_AND_HEADERS)),
)
