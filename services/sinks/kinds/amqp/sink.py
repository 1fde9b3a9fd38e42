"""The ``amqp`` sink: one AMQP 0-9-1 message per row in an exchange of RabbitMQ. Promise: at least once.

A row is written when the server has confirmed its message: it is then in every queue that is bound to its routing key, on disk
in durable ones, on a majority of nodes in quorum queues. Messages are persistent and sent many at a time; their confirmations
are awaited together. A message that no queue takes is returned by the server before it is confirmed, and its row becomes a dead
letter. A message that the server confirms negatively (a queue is full and rejects, or has no quorum) makes the sink wait, as
does an alarm for which the server blocks publishers; only what is not confirmed is sent again.

After a connection breaks or a process ends, messages without a confirmation are sent again and may be in a queue twice. Each
has the property ``message_id``, the identity of its row and the same in every replay, by which a consumer recognises
duplicates. It also has ``timestamp`` (the row's time), ``type`` (the row type), ``content_type``, ``app_id`` and the header
``schema-version``.

The exchange must be there: `blobtide sink-setup` makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.errors import Retry, ServerUnreachable
from libs.common.rows.row_type import RowType
from libs.common.settings import Settings
from services.sinks.frame.contract import Outcome, Part
from services.sinks.frame.message_sink import Messages, PayloadSink, RefusedMessage
from services.sinks.kinds.amqp.client import AmqpClient, AmqpMessages, Outgoing
from services.sinks.kinds.amqp.frames import Kind
from services.sinks.kinds.amqp.routing import RoutingKeys
from services.sinks.kinds.amqp.server import Exchange
from services.sinks.kinds.amqp.settings import KIND, AmqpSettings


class AmqpSink(PayloadSink):
    """Rows as messages over one connection."""

    def __init__(self, settings: AmqpSettings, row_type: RowType) -> None:
        super().__init__(settings, row_type)
        self._settings = settings
        self._keys = RoutingKeys(settings.routing_key, row_type)
        self._exchange = Exchange(settings.exchange, settings.exchange_type)
        self._name = KIND
        self._client: AmqpClient | None = None
        self._beat: Callable[[], None] = lambda: None

    def join(self, name: str, pipeline: Settings) -> None:
        """Take the name, which operators of the server see."""
        self._name = f"{pipeline.kafka.group_prefix}.sink.{name}"

    def read_files(self) -> None:
        """Read the password and load the certificates."""
        self._settings.server(self._name)

    def setup(self) -> str | None:
        """Make the exchange."""
        if not self._exchange.name:
            return None
        try:
            self._made().declare()
        except Retry as error:
            raise _unreachable(error) from error
        return f"{self._exchange.kind} exchange {self._exchange.name} is there"

    def open(self) -> None:
        """Connect, sign in and check the exchange."""
        self.close()
        client = self._made()
        try:
            client.open()
        except Retry as error:
            raise _unreachable(error) from error
        self._client = client

    def topics(self, rows: pa.Table) -> tuple[list[str], list[str | None]]:
        """Make routing keys."""
        return self._keys.of(rows)

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Send a message for every row."""
        outcome = super().write(parts)
        if self._client is not None:
            self._client.settled()
        return outcome

    def deliver(self, messages: Messages) -> Iterable[RefusedMessage]:
        """Publish, and wait until all messages are confirmed."""
        assert self._client is not None, "open first"  # noqa: S101
        seconds = _seconds(messages.table.column(self._row_type.time))
        return self._client.publish(AmqpMessages(messages.topics, messages.ids, seconds, messages.payloads))

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` while waiting for confirmations."""
        self._beat = beat
        if self._client is not None:
            self._client.beat = beat

    def tick(self) -> None:
        """Exchange heartbeats while there is nothing to send."""
        if self._client is not None:
            self._client.keep_alive()

    def close(self) -> None:
        """Disconnect; idempotent."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _made(self) -> AmqpClient:
        kind = Kind(self.content_type, self._row_type.name, self._row_type.version)
        outgoing = Outgoing(self._exchange, self._settings.declare, kind, self._settings.mandatory)
        client = AmqpClient(self._settings.server(self._name), outgoing)
        client.beat = self._beat
        return client


def _unreachable(error: Retry) -> ServerUnreachable:
    return ServerUnreachable(f"{error}; is it running, and are the sink's urls right?")


def _seconds(times: pa.ChunkedArray) -> list[int]:
    """Return times in seconds since 1970, none of which is negative."""
    whole = times.cast(pa.timestamp("s", tz="UTC"), safe=False).cast(pa.int64())
    seconds: list[int] = pc.max_element_wise(whole, pa.scalar(0, pa.int64())).to_pylist()
    return seconds
