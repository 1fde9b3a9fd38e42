"""Write one record per row to a cluster that speaks Kafka's protocol, in transactions or idempotently.

A kind derives its settings from `RecordSettings` and its sink from `RecordSink`, and says which cluster it is and how to deal
with it. What is promised, and why it holds, is said by the kinds.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import ClassVar, Final

import msgspec
import numpy as np
from pydantic import Field

from libs.common.errors import BlobtideError, Retry
from libs.common.kafka.client.configs import check_clients, check_reachable
from libs.common.kafka.client.failures import OutputRefused
from libs.common.kafka.publisher import Publisher, PublisherSpec
from libs.common.kafka.records import Outbound
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.kafka.transactions.fenced import FencedWriter
from libs.common.messages.dead_letters import ErrorCode
from libs.common.messages.headers import Headers
from libs.common.rows.identity import Identities
from libs.common.rows.row_type import RowType
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings
from services.sinks.frame.contract import Outcome, Part, RejectedRow
from services.sinks.frame.kind import Promise
from services.sinks.frame.message_sink import Messages, MessageSettings, MessageSink, RefusedMessage
from services.sinks.records.written import Place, WrittenRows

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
POSITION_PARTITIONS: Final = 12
"""Of the topic of positions; it may have more."""
_MOST_BYTES_A_CHARACTER: Final = 4  # UTF-8


class Delivery(StrEnum):
    """How records are written."""

    TRANSACTIONAL = "transactional"
    IDEMPOTENT = "idempotent"


class RecordSettings(MessageSettings):
    """Options of every sink that writes records."""

    topic: str = Field(
        min_length=1, description="Topic of each record. {column} inserts a column's value, made safe for a name."
    )
    delivery: Delivery = Field(
        default=Delivery.TRANSACTIONAL,
        description="transactional: effectively once. idempotent: at least once, for clusters without transactions.",
    )
    positions_topic: str = Field(
        default="Sinks.Positions",
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
        description="transactional: compacted topic of the target cluster that records how far each source has been written.",
    )


class RecordSink(MessageSink):
    """Rows as records; see the module.

    Attributes:
        asks_limits: whether the cluster is asked how large a record may be; otherwise it is as `message_max_bytes` says.
        patience: seconds without an acknowledgement after which a write without transactions gives up.
        pipeline: how to connect to the pipeline's own cluster, after `join`.
        beat: shows that the process is alive; called every few seconds while something takes long.
    """

    asks_limits: ClassVar[bool] = True
    patience: ClassVar[float] = 10.0

    def __init__(self, settings: RecordSettings, row_type: RowType) -> None:
        self._settings = settings
        self._reserved: frozenset[str] = frozenset({settings.positions_topic})
        super().__init__(settings, row_type)
        self.pipeline = KafkaSettings()
        self._name = ""
        self._cluster = self.pipeline
        self._limits = TopicLimits(self._cluster)
        self._publisher: Publisher | None = None
        self._held: dict[int, _Shard] = {}
        self._moved: set[int] = set()  # released in the middle of a write
        self._refused: dict[str, str] = {}  # why Kafka refuses rows of the write that is repeated, by their ids
        self.beat: Callable[[], None] = lambda: None
        self._headers: Headers = (
            ("row-type", row_type.name.encode()),
            ("schema-version", str(row_type.version).encode()),
            ("content-type", self.content_type.encode()),
        )

    @abstractmethod
    def cluster(self) -> KafkaSettings:
        """Return how to connect to the target cluster; may read files. Called after `join`. Raises `ConfigError`."""

    def check_topics(self, cluster: KafkaSettings, topics: tuple[str, ...]) -> None:
        """Check that the cluster responds and has the topics. Raises `ServerUnreachable`, `ConfigError`."""
        check_reachable(cluster, topics)

    def check_positions(self, cluster: KafkaSettings) -> None:
        """Check that positions can be kept in transactions, before any is written. Raises `ConfigError`."""

    @property
    def remembered_days(self) -> int | None:
        """For how many days positions are kept; None if nothing removes them."""
        return None

    @property
    def promise(self) -> Promise:
        """Only transactions record what has been written."""
        is_once = self._settings.delivery is Delivery.TRANSACTIONAL
        return Promise.EFFECTIVELY_ONCE if is_once else Promise.AT_LEAST_ONCE

    def join(self, name: str, pipeline: Settings) -> None:
        """Take the name, and note the pipeline's cluster and the topics to avoid."""
        self.pipeline = pipeline.kafka
        self._name = name
        self._reserved |= frozenset(pipeline.topics.model_dump().values())
        self.check_topic()

    def objection_to(self, topic: str) -> str | None:
        """Refuse invalid topic names, Kafka's internal topics, and topics that would feed rows back into the pipeline."""
        if not _NAME.fullmatch(topic) or topic in {".", ".."}:
            return f"{topic[:100]} cannot name a topic"
        if topic.startswith("__") or topic in self._reserved:
            return f"{topic} is not for rows: Kafka or the pipeline uses it"
        return None

    def read_files(self) -> None:
        """Make one client of each kind, which reads secrets and certificates."""
        check_clients(self.cluster())

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` between transactions and while taking over a shard."""
        self.beat = beat

    def open(self) -> None:
        """Check that the cluster and the known topics exist."""
        if not self._name:
            raise RuntimeError("open before join")
        self.close()
        self._cluster = self.cluster()
        topics = () if self.topic_name is None else (self.topic_name,)
        self.check_topics(self._cluster, topics)
        self._limits = TopicLimits(self._cluster, topics, None if self.asks_limits else _untold)
        self._limits.read()
        if self._settings.delivery is Delivery.IDEMPOTENT:
            spec = PublisherSpec(f"rows of {self.owner}", topics, patience=self.patience)
            self._publisher = Publisher(self._cluster, spec, self._limits)
        else:
            self.check_positions(self._cluster)

    @property
    def owner(self) -> str:
        """What the transactional ids begin with, after `open`."""
        return f"{self._cluster.group_prefix}.sink.{self._name}"

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Write the rows that have not been written yet."""
        if self._settings.delivery is Delivery.IDEMPOTENT:
            return super().write(parts)
        self._moved.clear()
        for held in self._held.values():
            held.written.begin()
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
        for held in self._held.values():
            held.written.settle()
        self._refused.clear()
        return Outcome(written, known, tuple(rejected))

    def send(
        self, ids: Sequence[str], keys: Sequence[bytes | None], topics: Sequence[str], payloads: Sequence[bytes]
    ) -> Iterable[RefusedMessage]:
        """Write records without transactions."""
        if self._publisher is None:
            raise RuntimeError("write before open")
        records = list(self._records(ids, keys, topics, payloads))
        for refused in self._publisher.publish(records, self.beat):
            code = ErrorCode.TOO_LARGE if refused.is_too_large else ErrorCode.REFUSED
            yield RefusedMessage(refused.index, code, refused.reason)

    def release(self, shards: Collection[int]) -> None:
        """Give up the transactional ids of shards, and forget their positions."""
        self._moved |= set(shards)
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
            self._check_held(part.shard, shard)
            sent, refused = self._fitting(messages)
            named = list(self.rejected(number, messages, refused))
            bad = np.array([row.row for row in named], np.int64)
            good = np.setdiff1d(np.array(messages.rows, np.int64), bad)
            changes = shard.written.changes(identities, fresh[good], fresh[bad])
            self._commit(shard, messages, sent, changes)
            rejected += [RejectedRow(number, int(fresh[row.row]), row.code, row.reason) for row in named]
            self.beat()
        return len(fresh), rejected

    def _commit(self, shard: _Shard, messages: Messages, sent: Sequence[tuple[int, Outbound]], changes: list[Outbound]) -> None:
        """Write records and `changes` in one transaction. If Kafka refuses some for good, the next try leaves them out."""
        try:
            shard.writer.write([*(record for _, record in sent), *changes])
        except OutputRefused as error:
            bad = [messages.ids[sent[at][0]] for at in error.outputs if at < len(sent)]
            if not bad:
                raise
            self._refused |= dict.fromkeys(bad, str(error))
            raise Retry(str(error), after=0.0, kind="refused") from error
        shard.written.remember(changes)

    def _fitting(self, messages: Messages) -> tuple[list[tuple[int, Outbound]], list[RefusedMessage]]:
        """Return the records that Kafka accepts, as far as is known, with their numbers, and refuse the others."""
        records = self._records(messages.ids, messages.keys, messages.topics, messages.payloads)
        if not self._refused and self._all_fit(messages):
            return list(enumerate(records)), []
        fitting, refused = [], []
        for at, record in enumerate(records):
            if (why := self._refused.get(messages.ids[at])) is not None:
                refused.append(RefusedMessage(at, ErrorCode.REFUSED, why))
            elif not self._limits.takes(record):
                refused.append(RefusedMessage(at, ErrorCode.TOO_LARGE, f"{record.topic} takes no record of this size"))
            else:
                fitting.append((at, record))
        return fitting, refused

    def _all_fit(self, messages: Messages) -> bool:
        """Return whether even a record with the longest of all ids, keys and payloads would fit: a look at each costs more."""
        if not messages.payloads:
            return True
        row = b"x" * (_MOST_BYTES_A_CHARACTER * max(map(len, messages.ids)))
        key = max(filter(None, messages.keys), key=len, default=None)
        heaviest = Outbound("", max(messages.payloads, key=len), key, (("id", row), *self._headers))
        return all(self._limits.takes(msgspec.structs.replace(heaviest, topic=topic)) for topic in set(messages.topics))

    def _records(
        self, ids: Sequence[str], keys: Sequence[bytes | None], topics: Sequence[str], payloads: Sequence[bytes]
    ) -> Iterator[Outbound]:
        for row, key, topic, payload in zip(ids, keys, topics, payloads, strict=True):
            yield Outbound(topic, payload, key, (("id", row.encode()), *self._headers))

    def _taken_over(self, shard: int) -> _Shard:
        """Return a shard, now fenced off from other writers, with the positions written so far."""
        if shard in self._held and not self._held[shard].writer.holds_id:
            self._drop(shard)
        if shard not in self._held:
            owner = f"{self.owner}.{shard}"
            place = Place(self._settings.positions_topic, shard % POSITION_PARTITIONS, owner, self.remembered_days)
            taken = _Shard(FencedWriter(self._cluster, owner, self._limits), WrittenRows(place))
            try:
                self._check_owned(shard)
                taken.writer.take_over(self.beat)
                taken.written.load(self._cluster, self.beat)
                self._check_owned(shard)
            except BaseException:
                taken.writer.close()
                raise
            self._held[shard] = taken
        return self._held[shard]

    def _check_owned(self, number: int) -> None:
        """Raise Retry if a shard has been released since the write began: it would be taken from its new owner."""
        if number in self._moved:
            raise Retry("the shard has moved to another process", after=0.0, kind="moved")

    def _check_held(self, number: int, shard: _Shard) -> None:
        """Raise Retry unless what is known of a shard is still all there is."""
        self._check_owned(number)
        if self._held.get(number) is not shard or not shard.writer.holds_id:
            raise Retry("Kafka was slow to commit, so the transactional id is taken anew", after=0.0, kind="transaction")

    def _drop(self, shard: int) -> None:
        held = self._held.pop(shard, None)
        if held is not None:
            held.writer.close()


class _Shard:
    """What this process holds for a shard."""

    def __init__(self, writer: FencedWriter, written: WrittenRows) -> None:
        self.writer = writer
        self.written = written


def _untold(topics: Collection[str]) -> Mapping[str, int]:
    """Stand in for a cluster that is not asked for the limits of topics."""
    del topics
    return {}
