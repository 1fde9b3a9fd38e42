"""The amqp sink's destination: an exchange of a real RabbitMQ with a queue that keeps what is routed to it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pika
import pytest

from libs.common.rows.identity import Identities
from libs.common.rows.types.flows import FLOWS
from libs.local.rabbitmq import LocalRabbitMq, Rules
from tests.contract.harness import Benchmark, Case, Content, Harness, Row, killed
from tests.contract.peers import Options, Peer, Takes
from tests.flows import Spot
from tests.rabbitmq import Reader
from tests.row_samples import document, position_of, row, table, text_column

WITHOUT_TLS = {"urls": ["amqps://a", "amqp://b"], "username": "u", "password": "p"}
MARKS = pytest.mark.rabbitmq
_MOST_BYTES = 2_000


class AmqpHarness(Harness):
    """Messages in a durable queue; flows are routed by their direction, of which there are two."""

    def __init__(self, case: Case, server: LocalRabbitMq) -> None:
        super().__init__(case)
        self.server = server
        self.exchange = f"contract.{uuid4().hex}"
        self._content: Content = {}
        self._reader = Reader(server)
        self.sink().setup()
        self._queue = self._reader.queue(self.exchange, ("rows.inbound", "rows.outbound", "rows.all"))

    def options(self) -> dict[str, Any]:
        """Give up soon while the server is away."""
        key = f"rows.{self._word('{direction}')}"
        own = {"exchange": self.exchange, "routing_key": key, "max_message_bytes": _MOST_BYTES}
        return {"urls": self.server.url, "timeout_seconds": 5, **own}

    def read(self) -> Content:
        """Take what is in the queue; a row may be there twice."""
        for message in self._reader.take(self._queue):
            values = json.loads(message.body)
            kept = message.key, message.properties.message_id, values
            position = position_of(self.case.row_type, values)
            assert self._content.setdefault(position, kept) == kept, "a repeated message is another one"
        return self._content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, flat, with its routing key and its identity."""
        row_type = self.case.row_type
        ids = Identities.of(table(row_type, rows), row_type.position).document_ids().to_pylist() if rows else []
        return {
            position_of(row_type, one): (f"rows.{self._word(one.get('direction'))}", row_id, document(row_type, one))
            for one, row_id in zip(rows, ids, strict=True)
        }

    def outage(self) -> AbstractContextManager[None]:
        """Kill the server."""
        return killed(self.server)

    @contextmanager
    def refusal(self) -> Iterator[None]:
        """Let the server be short of memory."""
        self.server.control("set_vm_memory_high_watermark", "0")
        try:
            yield
        finally:
            self.server.control("set_vm_memory_high_watermark", "0.6")

    def refused(self) -> Row:
        """A message for which there is no queue, or one that is too large."""
        spot = Spot(1, 0, 90)
        if self.case.row_type is FLOWS:
            return row(FLOWS, spot, direction="sideways")
        return row(self.case.row_type, spot, **{text_column(self.case.row_type): "x" * _MOST_BYTES})

    def _word(self, direction: Any) -> Any:
        return direction if self.case.row_type is FLOWS else "all"


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give an exchange and a queue of its own."""
    return AmqpHarness(case, request.getfixturevalue("rabbitmq"))


def _publish(options: Options, rows: Iterable[bytes]) -> int:
    """Publish without confirms: less than the sink does, but the limit of the library."""
    with closing(pika.BlockingConnection(pika.URLParameters(options["urls"]))) as connection:
        channel = connection.channel()
        return sum(1 for row in rows if _published(channel, options, row))


def _publish_confirmed(options: Options, rows: Iterable[bytes]) -> int:
    with closing(pika.BlockingConnection(pika.URLParameters(options["urls"]))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()  # from now on, basic_publish raises if a message was not confirmed
        return sum(1 for row in rows if _published(channel, options, row))


def _published(channel: Any, options: Options, row: bytes) -> bool:
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    channel.basic_publish("flowlogs", options["routing_key"], row, properties, mandatory=True)
    return True


def _count(server: LocalRabbitMq, _: Options) -> int:
    with Reader(server).channel() as channel:
        return int(channel.queue_declare("rows", passive=True).method.message_count)


BENCHMARK = Benchmark(
    "messages confirmed, offsets committed",
    own="routing_key",
    server=lambda directory: LocalRabbitMq(directory, rules=Rules(queues=("rows",))),
    options=lambda server: {"urls": server.url},
    count=_count,
    peers=(
        Peer("pika with confirms, json.dumps", _publish_confirmed, Takes.JSON, rows=10_000),
        Peer("pika without confirms, prepared bytes", _publish, Takes.BYTES, ends="messages sent"),
    ),
)
