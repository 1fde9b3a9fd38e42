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

Positions are kept for as long as their topic retains them (`remember_days`); rows replayed after that are written again.

``idempotent`` (at least once): for clusters without transactions. After a failure, rows may be written again, with the same id.

Every record has the headers ``id`` (the same in every replay), ``row-type``, ``schema-version`` and ``content-type``. Topics of
the pipeline itself, and topics whose names begin with two underscores, are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Final

import numpy as np
from pydantic import Field

from libs.common.errors import BlobtideError, ConfigError, Retry
from libs.common.kafka.client.configs import check_clients, check_reachable
from libs.common.kafka.publisher import Publisher, PublisherSpec
from libs.common.kafka.records import Outbound
from libs.common.kafka.topics.making import make_topic
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.kafka.transactions.fenced import FencedWriter
from libs.common.messages.dead_letters import ErrorCode
from libs.common.messages.headers import Headers
from libs.common.rows.identity import Identities
from libs.common.rows.row_type import RowType
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings
from services.sinks.frame.contract import KafkaUse, Outcome, Part, RejectedRow
from services.sinks.frame.kind import Promise
from services.sinks.frame.message_sink import Messages, MessageSettings, MessageSink, RefusedMessage
from services.sinks.kinds.kafka.written import Place, WrittenRows

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_POSITION_PARTITIONS: Final = 12
_DAY_MS: Final = 86_400_000
_PATIENCE_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 1.0


class Delivery(StrEnum):
    """How records are written."""

    TRANSACTIONAL = "transactional"
    IDEMPOTENT = "idempotent"


class KafkaSinkSettings(MessageSettings):
    """Options of the kafka sink."""

    topic: str = Field(
        min_length=1, description="Topic of each record. {column} inserts a column's value, made safe for a name."
    )
    cluster: KafkaSettings | None = Field(
        default=None, description="The target cluster, with the settings of `kafka`. Default: the pipeline's own."
    )
    delivery: Delivery = Field(
        default=Delivery.TRANSACTIONAL,
        description="transactional: effectively once. idempotent: at least once, for clusters without transactions.",
    )
    positions_topic: str = Field(
        default="Sinks.Positions",
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
        description="transactional: compacted topic of the target cluster that holds how far each source has been written.",
    )
    remember_days: int = Field(
        default=30, ge=1, le=3_650, description="transactional: how long positions are kept, once sink-setup makes their topic."
    )


class KafkaSink(MessageSink):
    """Rows as records; see the module."""

    def __init__(self, settings: KafkaSinkSettings, row_type: RowType) -> None:
        self._settings = settings
        self._reserved: frozenset[str] = frozenset({settings.positions_topic})
        super().__init__(settings, row_type)
        self._cluster = settings.cluster or KafkaSettings()
        self._owner = ""
        self._limits = TopicLimits(self._cluster)
        self._publisher: Publisher | None = None
        self._held: dict[int, _Shard] = {}
        self._beat: Callable[[], None] = lambda: None
        self._headers: Headers = (
            ("row-type", row_type.name.encode()),
            ("schema-version", str(row_type.version).encode()),
            ("content-type", self.content_type.encode()),
        )

    @property
    def promise(self) -> Promise:
        """Only transactions record what has been written."""
        is_once = self._settings.delivery is Delivery.TRANSACTIONAL
        return Promise.EFFECTIVELY_ONCE if is_once else Promise.AT_LEAST_ONCE

    def join(self, name: str, pipeline: Settings) -> None:
        """Use the pipeline's cluster unless another one is set, and note the topics to avoid there."""
        self._cluster = self._settings.cluster or pipeline.kafka
        self._owner = f"{self._cluster.group_prefix}.sink.{name}"
        self._reserved |= frozenset(pipeline.topics.model_dump().values())
        self.check_topic()

    def objection_to(self, topic: str) -> str | None:
        """Refuse invalid topic names, Kafka's internal topics, and topics that would feed rows back into the pipeline."""
        if not _NAME.fullmatch(topic) or topic in {".", ".."}:
            return f"{topic[:100]} cannot name a topic"
        if topic.startswith("__") or topic in self._reserved:
            return f"{topic} is not for rows: Kafka or the pipeline uses it"
        return None

    def kafka_use(self) -> KafkaUse:
        """Return topics on the pipeline's cluster if it is the target; topics made from values are not known."""
        if self._settings.cluster is not None:
            return KafkaUse()
        topics = () if self.topic_name is None else (self.topic_name,)
        if self._settings.delivery is Delivery.IDEMPOTENT:
            return KafkaUse(writes=topics)
        positions = self._settings.positions_topic
        return KafkaUse((positions,), (*topics, positions), is_transactional=True)

    def read_files(self) -> None:
        """Make one client of each kind, which reads secrets and certificates."""
        check_clients(self._cluster)

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` between transactions and while taking over a shard."""
        self._beat = beat

    def setup(self) -> str | None:
        """Create the topic of positions."""
        if self._settings.delivery is Delivery.IDEMPOTENT:
            return None
        kept = {"cleanup.policy": "compact,delete", "retention.ms": str(self._settings.remember_days * _DAY_MS)}
        made = make_topic(self._cluster, self._settings.positions_topic, _POSITION_PARTITIONS, kept)
        return f"topic {self._settings.positions_topic} {'created' if made else 'is there'}"

    def open(self) -> None:
        """Check that the cluster and the known topics exist."""
        if not self._owner:
            raise RuntimeError("open before join")
        self.close()
        topics = () if self.topic_name is None else (self.topic_name,)
        check_reachable(self._cluster, topics)
        self._limits = TopicLimits(self._cluster, topics)
        self._limits.read()
        if self._settings.delivery is Delivery.IDEMPOTENT:
            spec = PublisherSpec(f"rows of {self._owner}", topics, patience=_PATIENCE_SECONDS)
            self._publisher = Publisher(self._cluster, spec, self._limits)
            return
        try:
            check_reachable(self._cluster, (self._settings.positions_topic,))
        except ConfigError as error:
            topic = self._settings.positions_topic
            raise ConfigError(
                f"topic {topic} does not exist: `blobtide sink-setup` with the name of this sink makes it"
            ) from error

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Write the rows that have not been written yet."""
        if self._settings.delivery is Delivery.IDEMPOTENT:
            return super().write(parts)
        written = known = 0
        rejected: list[RejectedRow] = []
        for number, part in enumerate(parts):
            try:
                fresh, refused = self._write_part(number, part)
            except BlobtideError:
                self._drop(part.shard)  # whatever went wrong, our knowledge of the shard may be outdated
                raise
            written, known = written + fresh - len(refused), known + part.rows.num_rows - fresh
            rejected += refused
        return Outcome(written, known, tuple(rejected))

    def send(
        self, ids: Sequence[str], keys: Sequence[bytes | None], topics: Sequence[str], payloads: Sequence[bytes]
    ) -> Iterable[RefusedMessage]:
        """Write records without transactions."""
        if self._publisher is None:
            raise RuntimeError("write before open")
        records = list(self._records(ids, keys, topics, payloads))
        for refused in self._publisher.publish(records, self._beat):
            code = ErrorCode.TOO_LARGE if refused.is_too_large else ErrorCode.REFUSED
            yield RefusedMessage(refused.index, code, refused.reason)

    def release(self, shards: Collection[int]) -> None:
        """Give up the transactional ids of shards, and forget their positions."""
        for shard in shards:
            self._drop(shard)

    def close(self) -> None:
        """Drop all clients; idempotent."""
        self.release(list(self._held))
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None

    def _write_part(self, number: int, part: Part) -> tuple[int, list[RejectedRow]]:
        """Write a part in transactions of bounded size; return the number of new rows, and the refused ones."""
        shard = self._taken_over(part.shard)
        identities = Identities.of(part.rows, part.row_type.position)
        fresh = shard.written.fresh(identities)
        new = Part(part.shard, part.row_type, part.rows.take(fresh), (len(fresh),))
        rejected: list[RejectedRow] = []
        for messages in self.messages(new):
            sent, refused = self._fitting(messages)
            chosen = [*messages.rows, *(row for row, _ in messages.refused)]
            moved = list(shard.written.advanced(identities, np.sort(fresh[chosen])))
            shard.writer.write([*sent, *moved])
            shard.written.remember(moved)
            named = self.rejected(number, messages, refused)
            rejected += [RejectedRow(number, int(fresh[row.row]), row.code, row.reason) for row in named]
            self._beat()
            if self._held.get(part.shard) is not shard:
                raise Retry("the shard has moved to another process", after=0.0, kind="moved")
        return len(fresh), rejected

    def _fitting(self, messages: Messages) -> tuple[list[Outbound], list[RefusedMessage]]:
        """Return the records that fit their topics, and refuse the others."""
        fitting, refused = [], []
        records = self._records(messages.ids, messages.keys, messages.topics, messages.payloads)
        for at, record in enumerate(records):
            if self._limits.takes(record):
                fitting.append(record)
            else:
                refused.append(RefusedMessage(at, ErrorCode.TOO_LARGE, f"{record.topic} takes no record of this size"))
        return fitting, refused

    def _records(
        self, ids: Sequence[str], keys: Sequence[bytes | None], topics: Sequence[str], payloads: Sequence[bytes]
    ) -> Iterator[Outbound]:
        for row, key, topic, payload in zip(ids, keys, topics, payloads, strict=True):
            yield Outbound(topic, payload, key, (("id", row.encode()), *self._headers))

    def _taken_over(self, shard: int) -> _Shard:
        """Return a shard, now fenced off from other writers, with the positions written so far."""
        if shard not in self._held:
            owner = f"{self._owner}.{shard}"
            place = Place(self._settings.positions_topic, shard % _POSITION_PARTITIONS, owner)
            taken = _Shard(FencedWriter(self._cluster, owner, self._limits), WrittenRows(place))
            try:
                taken.writer.take_over(self._beat)
                taken.written.load(self._cluster, self._beat)
            except BaseException:
                taken.writer.close()
                raise
            self._held[shard] = taken
        return self._held[shard]

    def _drop(self, shard: int) -> None:
        held = self._held.pop(shard, None)
        if held is not None:
            held.writer.close()


class _Shard:
    """What this process holds for a shard."""

    def __init__(self, writer: FencedWriter, written: WrittenRows) -> None:
        self.writer = writer
        self.written = written
