"""The ``eventhub`` sink: one event per row in event hubs of Azure. Promise: at least once, or effectively once in some tiers.

It speaks Kafka's protocol, as the ``kafka`` sink does, with what Event Hubs requires preset: sign-in by connection string or
token, TLS, the times after which idle connections are cut, and requests below the size at which it ends the connection. It
sends no administrative request: event hubs are created in Azure.

``idempotent`` (the default, at least once): a row is written when its event is acknowledged; what the client itself repeats is
there once. After a failure, or a restart, rows may be written again, with the same id.

``transactional`` (effectively once for readers with ``read_committed``): for the Premium and Dedicated tiers. Rows, and how far
each source has been written, are committed in one transaction; the positions go to the compacted event hub `positions_topic`.
Whether the namespace opens transactions is tried at the start. Why a row is there once is as with the ``kafka`` sink.

Every event has the properties ``id`` (the same in every replay), ``row-type``, ``schema-version`` and ``content-type``. An
event that is too large for a request becomes a dead letter.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

from libs.common.errors import BlobtideError, ConfigError, Retry, ServerUnreachable
from libs.common.kafka.topics.admin import partition_count
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.kafka.transactions.fenced import FencedWriter
from libs.common.rows.row_type import RowType
from libs.common.settings.kafka import KafkaSettings
from services.sinks.kinds.eventhub.connection_string import ConnectionString
from services.sinks.kinds.eventhub.settings import EventHubSettings
from services.sinks.records.sink import POSITION_PARTITIONS, Delivery, RecordSink

_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_LATER: Final = "entity-path"  # until the file with the connection string is read
_TIERS: Final = "transactions need the Premium or Dedicated tier: otherwise set delivery: idempotent"


class EventHubSink(RecordSink):
    """Rows as events; see the module."""

    asks_limits: ClassVar[bool] = False
    patience: ClassVar[float] = 60.0

    def __init__(self, settings: EventHubSettings, row_type: RowType) -> None:
        self._own = settings
        string = settings.given_string
        known = settings.topic or (_LATER if string is None else string.hub or "")
        if not known:
            raise _no_topic()
        super().__init__(settings.model_copy(update={"topic": known}), row_type)

    def objection_to(self, topic: str) -> str | None:
        """Refuse what cannot name an event hub, and what would feed rows back into the pipeline."""
        if (objection := super().objection_to(topic)) is not None:
            return objection
        return None if _NAME.fullmatch(topic) else f"{topic} cannot name an event hub: it begins or ends with a sign"

    def cluster(self) -> KafkaSettings:
        """Read the connection string, and return how to connect; the topic may be named by the string."""
        string = self._own.read_string()
        if string is not None:
            self._fit_topic(string)
        return self._own.cluster(string, self.pipeline.group_prefix)

    def _fit_topic(self, string: ConnectionString) -> None:
        if string.hub is None:
            if not self._own.topic:
                raise _no_topic()
            return
        if not self._own.topic:
            self.use_topic(string.hub)
        elif self.topic_name != string.hub:
            raise ConfigError(f"topic: the connection string is for the event hub {string.hub} only (EntityPath)")
        if self._own.delivery is Delivery.TRANSACTIONAL:
            raise ConfigError(
                "delivery: transactional also writes to positions_topic: use a connection string of the namespace, not of a hub"
            )

    def open(self) -> None:
        """Check that the namespace and the known event hubs exist."""
        try:
            super().open()
        except ServerUnreachable as error:  # the Kafka layer names settings of its own
            what = "oauth" if self._own.gets_tokens else "connection_string"
            raise ServerUnreachable(f"{str(error).split('; check ')[0]}; check {what} and namespace") from error

    def check_topics(self, cluster: KafkaSettings, topics: tuple[str, ...]) -> None:
        """Check that event hubs exist."""
        try:
            super().check_topics(cluster, topics)
        except ConfigError as error:
            raise ConfigError(f"event hub {topics[0]} does not exist in {cluster.bootstrap_servers}: create it") from error

    def check_positions(self, cluster: KafkaSettings) -> None:
        """Check that there is an event hub for positions, and try to open transactions."""
        hub = self._own.positions_topic
        try:
            count = partition_count(cluster, hub)
        except ConfigError as error:
            raise ConfigError(_make(hub, "does not exist")) from error
        if count < POSITION_PARTITIONS:
            raise ConfigError(_make(hub, f"has only {count} partitions"))
        self._try_transactions(cluster)

    def _try_transactions(self, cluster: KafkaSettings) -> None:
        writer = FencedWriter(cluster, f"{self.owner}.probe", TopicLimits(cluster))
        try:
            writer.take_over(self.beat)
        except Retry as error:
            raise ServerUnreachable(f"{error}; {_TIERS}") from error
        except ServerUnreachable:
            raise
        except BlobtideError as error:
            raise ConfigError(f"delivery: {cluster.bootstrap_servers} opens no transactions: {error}; {_TIERS}") from error
        finally:
            writer.close()


def _no_topic() -> ConfigError:
    return ConfigError("topic: name an event hub, or use a connection string of one, which has an EntityPath")


def _make(hub: str, lacks: str) -> str:
    return f"event hub {hub} {lacks}: create it with cleanup policy compact and {POSITION_PARTITIONS} partitions or more"
