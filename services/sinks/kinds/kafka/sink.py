"""The ``kafka`` sink: one record per row in topics of the same or another Kafka. Promise: effectively once, or at least once.

``transactional`` (effectively once for readers with ``read_committed``): rows, and how far each source has been written, are
committed in one transaction of the target cluster; the positions go to `positions_topic`, which `blobtide sink-setup` creates.
Why a row is there once, whatever happens:

- *Replays.* A row at or below the committed position of its source is not written again, however rows are cut into batches.
- *Rebalances.* Each shard has its own transactional id. The new owner of a shard takes over the id, which ends whatever the
  previous owner left open, and only then reads the positions: nothing can be added to them behind its back.
- *Zombies.* A process that was presumed dead, or does not know yet that it has lost a shard, is fenced by that and commits
  nothing. If it takes the id back, it reads the positions again. A commit whose response was lost is resolved in the same way.
- *A recreated topic, or another cluster.* Positions belong to sources, not to Kafka offsets.
- *Refused rows.* A position that moves past one leaves a note until it is certainly a dead letter; a replay tries it again.

Positions are kept for as long as their topic retains them (`remember_days`); rows replayed after that are written again.

``idempotent`` (at least once): for clusters without transactions. After a failure, rows may be written again, with the same id.

Every record has the headers ``id`` (the same in every replay), ``row-type``, ``schema-version`` and ``content-type``. Topics of
the pipeline itself, and topics whose names begin with two underscores, are refused.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from libs.common.errors import ConfigError
from libs.common.kafka.topics.admin import partition_count
from libs.common.kafka.topics.making import make_topic
from libs.common.rows.row_type import RowType
from libs.common.settings.kafka import KafkaSettings
from services.sinks.frame.contract import KafkaUse
from services.sinks.records.sink import POSITION_PARTITIONS, Delivery, RecordSettings, RecordSink

_DAY_MS: Final = 86_400_000


class KafkaSinkSettings(RecordSettings):
    """Options of the kafka sink."""

    cluster: KafkaSettings | None = Field(
        default=None, description="The target cluster, with the settings of `kafka`. Default: the pipeline's own."
    )
    remember_days: int = Field(
        default=30,
        ge=1,
        le=3_650,
        description="transactional: days for which the topic that sink-setup creates keeps positions.",
    )


class KafkaSink(RecordSink):
    """Rows as records of a Kafka; see the module."""

    def __init__(self, settings: KafkaSinkSettings, row_type: RowType) -> None:
        super().__init__(settings, row_type)
        self._own = settings

    def cluster(self) -> KafkaSettings:
        """Return the pipeline's cluster unless another one is set.

        Pipelines that differ in their prefix must not share ids and positions in another cluster.
        """
        cluster = self._own.cluster
        if cluster is None:
            return self.pipeline
        if "group_prefix" in cluster.model_fields_set:
            return cluster
        return cluster.model_copy(update={"group_prefix": self.pipeline.group_prefix})

    @property
    def remembered_days(self) -> int:
        """As long as the topic keeps them."""
        return self._own.remember_days

    def kafka_use(self) -> KafkaUse:
        """Return topics on the pipeline's cluster if it is the target; topics made from values are not known."""
        if self._own.cluster is not None:
            return KafkaUse()
        topics = () if self.topic_name is None else (self.topic_name,)
        if self._own.delivery is Delivery.IDEMPOTENT:
            return KafkaUse(writes=topics)
        positions = self._own.positions_topic
        return KafkaUse((positions,), (*topics, positions), is_transactional=True)

    def setup(self) -> str | None:
        """Create the topic of positions."""
        if self._own.delivery is Delivery.IDEMPOTENT:
            return None
        kept = {"cleanup.policy": "compact,delete", "retention.ms": str(self._own.remember_days * _DAY_MS)}
        made = make_topic(self.cluster(), self._own.positions_topic, POSITION_PARTITIONS, kept)
        return f"topic {self._own.positions_topic} {'created' if made else 'exists already'}"

    def check_positions(self, cluster: KafkaSettings) -> None:
        """Check that the topic of positions exists and is large enough."""
        topic, make = self._own.positions_topic, "run `blobtide sink-setup` with the name of this sink"
        try:
            count = partition_count(cluster, topic)
        except ConfigError as error:
            raise ConfigError(f"topic {topic} does not exist: {make}") from error
        if count < POSITION_PARTITIONS:
            needs = f"topic {topic} has {count} partitions but needs {POSITION_PARTITIONS}"
            raise ConfigError(f"{needs}: delete it and {make}")
