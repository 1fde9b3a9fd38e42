"""One member of a consumer group, whose positions are always known and always come from the committed offsets.

Rebalance callbacks only record what happened; everything that blocks or may raise (reading committed offsets, seeking, the
listener) happens in `poll`, in the caller's thread, before a record is delivered. A partition is *placed* before it is read:

* committed offset on the broker: start there;
* none: start at the beginning, and say so if that is no longer offset 0;
* outside what the topic holds: count and log the exact gap, start at the earliest record there is. Never skip silently;
* without a partition of its number in each topic that belongs with its own: wait, unread, until there is one (`partners.py`).

The client only ever gets absolute positions, and only by `assign`. A logical one (BEGINNING) makes it ask the broker in the
background, and it asks again half a second after a pause or a seek came between: that late answer replaces the position sought
since (librdkafka 2.16, `rd_kafka_toppar_handle_Offset`), and everything is read twice. For the same reason a placed partition
delivers each offset once and in order, whatever the client does: going back means joining the group again.

A broker outage is not an error here: `poll` returns nothing, says so once a minute, and goes on when the broker is back.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as ClientPartition

from libs.common.errors import BlobtideError, Retry, ServerUnreachable
from libs.common.kafka.client import metrics
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.configs import consumer_config, make_client
from libs.common.kafka.client.failures import error_of, is_end, is_moved, is_out_of_range, is_passing, raise_for, translated
from libs.common.kafka.client.protocols import ConsumerClient, RebalanceCallback
from libs.common.kafka.client.throttle import Throttle
from libs.common.kafka.group.lag import Lag
from libs.common.kafka.group.partners import Partners
from libs.common.kafka.records import Inbound, Listener, TopicPartition
from libs.common.messages.headers import Headers
from libs.common.settings.kafka import KafkaSettings

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 2.0
_METADATA_MAGIC = b"CGMDv2:"


class Use(StrEnum):
    """What the partitions of a group are for."""

    READ = "read"
    OWN = "own"  # they divide work; the positions never move, so there is no lag


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """Which group reads which topics; `partners` must have a partition for each that is read."""

    group: str
    topics: tuple[str, ...]
    use: Use = Use.READ
    partners: tuple[str, ...] = ()


class _Phase(StrEnum):
    ARRIVED = "arrived"  # assigned; the listener does not know it yet
    REWINDING = "rewinding"  # uncommitted work was thrown away
    READING = "reading"


@dataclass(frozen=True, slots=True)
class _Event:
    arrived: bool
    partitions: tuple[TopicPartition, ...]


class GroupConsumer:
    """Consumer of `spec`. Belongs to one thread. Nothing happens before `open`."""

    def __init__(
        self,
        kafka: KafkaSettings,
        spec: GroupSpec,
        listener: Listener,
        make: Callable[[ClientLog], ConsumerClient] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = spec
        self._listener = listener
        self._make = make or self._made_from(kafka)
        self._clock = clock
        self._longest_pause = kafka.max_poll_interval_ms / 1000
        self._client: ConsumerClient | None = None
        self._events: list[_Event] = []
        self._callback_error: KafkaException | None = None
        self._phases: dict[TopicPartition, _Phase] = {}
        self._starts: dict[TopicPartition, int] = {}  # committed
        self._expected: dict[tuple[str, int], int] = {}  # next to be delivered, of partitions that are read
        self._due: dict[TopicPartition, float] = {}  # when the listener is to be asked again
        self._lag = Lag(kafka, clock)
        self._partners = Partners(kafka, spec.topics, spec.partners, clock)
        self._unanswered = 0
        self._commit_errors: list[KafkaError] = []
        self._paused = False
        self._must_rejoin = False
        self._last_poll = clock()
        self._pid = os.getpid()
        self._throttle = Throttle(clock)

    def open(self) -> None:
        """Join the group."""
        self._unanswered = 0
        self._client = self._make(ClientLog(self._spec.group))
        self._last_poll = self._clock()
        subscribe: RebalanceCallback = self._on_revoke
        self._client.subscribe(list(self._spec.topics), on_assign=self._on_assign, on_revoke=subscribe, on_lost=subscribe)

    def poll(self, max_records: int, seconds: float, *, place: bool = True) -> list[Inbound]:
        """Return what arrives within `seconds`; call listeners first. Without `place` no new partition is begun with."""
        client = self._open_client()
        if self._must_rejoin:
            self.rejoin()
            client = self._open_client()
        self._partners.look()
        self._stop_reading([p for p in self.readable() if not self._partners.has(p)], _Phase.REWINDING)
        if place:
            self.place()
        messages = client.consume(max_records, seconds)
        self._last_poll = self._clock()
        self._apply_events()
        self._judge_commits()
        if self._spec.use is Use.READ:
            self._lag.publish(self._starts)
        return self._accepted(messages)

    def place(self) -> None:
        """Begin each partition that waits for it at its committed offset, then tell the listener; those that cannot, later."""
        now = self._clock()
        waiting = [p for p, phase in self._phases.items() if phase is not _Phase.READING and self._due.get(p, now) <= now]
        held = {partition for partition in waiting if not self._partners.has(partition)}
        unknown = [partition for partition in waiting if partition not in held or partition not in self._starts]
        found = self._find_starts(unknown) if unknown else {}
        self._starts.update({p: offset for p, offset in found.items() if p in held})  # for their lag
        starts = {p: offset for p, offset in found.items() if p not in held}
        arrived = frozenset(p for p in starts if self._phases[p] is _Phase.ARRIVED)
        if not starts or not self._begin_at(starts):
            return
        if arrived:
            self._tell(self._listener.assigned, arrived, _Phase.ARRIVED)
        if rewound := frozenset(starts) - arrived:
            metrics.REWINDS.inc()
            self._tell(self._listener.rewound, rewound, _Phase.REWINDING)

    def trouble(self) -> str:
        """Return why partitions wait that could otherwise be read; empty if none does."""
        return self._partners.trouble()

    def owned(self) -> frozenset[TopicPartition]:
        """Return the partitions that the listener has been told of."""
        return frozenset(p for p, phase in self._phases.items() if phase is not _Phase.ARRIVED)

    def readable(self) -> frozenset[TopicPartition]:
        """Return the partitions that are placed: only their offsets may be committed."""
        return frozenset(p for p, phase in self._phases.items() if phase is _Phase.READING)

    def unmoved(self) -> dict[TopicPartition, int]:
        """Return the committed position of one partition, to be committed again."""
        return {p: self._starts[p] for p in sorted(self.readable())[:1]}

    def moved(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Take note of offsets that were committed."""
        self._starts.update({p: offset for p, offset in offsets.items() if p in self._phases})

    def rewind(self) -> None:
        """Throw away what was delivered and not committed; `place` goes back to the committed offsets."""
        self._stop_reading(self.readable(), _Phase.REWINDING)

    def group_metadata(self) -> bytes | None:
        """Return what proves membership, or None while there is none: a commit without it would not be fenced."""
        if self._clock() - self._last_poll > self._longest_pause:
            return None
        data = self._open_client().consumer_group_metadata()
        if not data.startswith(_METADATA_MAGIC):
            raise BlobtideError(
                "this version of the Kafka client does not expose the group's generation; install a supported version"
            )
        (generation,) = struct.unpack_from("<i", data, len(_METADATA_MAGIC))
        return data if generation >= 0 else None

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit outside a transaction what is still ours; a later `poll` sees the answer and raises if Kafka refused.

        It does not wait: the client's synchronous commit blocks for as long as the coordinator hangs.
        """
        ours = {p: offset for p, offset in offsets.items() if p in self.readable()}
        if ours:
            positions = [ClientPartition(p.topic, p.partition, offset) for p, offset in ours.items()]
            try:
                self._open_client().commit(offsets=positions, asynchronous=True)
            except KafkaException as exception:
                self._commit_errors.append(error_of(exception))
            else:
                self._unanswered += 1
                self.moved(ours)

    def pause(self) -> None:
        """Deliver nothing until `resume`, not even from partitions that arrive later."""
        self._paused = True
        self._open_client().pause(_client_partitions(self.readable()))

    def resume(self) -> None:
        """Deliver again."""
        self._paused = False
        self._open_client().resume(_client_partitions(self.readable()))

    def rejoin(self) -> None:
        """Leave the group and join it with a new client: all partitions are revoked, then assigned again."""
        metrics.REJOINS.inc()
        self._leave()
        self.open()

    def close(self) -> None:
        """Leave the group after the last commits were answered, within a few seconds. Idempotent."""
        if self._client is None:
            return
        deadline = self._clock() + ANSWER_SECONDS
        while self._unanswered and self._clock() < deadline:
            self._client.consume(1, 0.05)
        if self._unanswered:
            self.abandon()
        else:
            self._leave()

    def abandon(self) -> None:
        """Drop the client without leaving the group, which would wait for a broker that is away. Idempotent."""
        self._client = None
        self._close_askers()
        self._forget(tuple(self._phases))

    def _close_askers(self) -> None:
        self._lag.close()
        self._partners.close()

    def _leave(self) -> None:
        client, self._client = self._open_client(), None
        self._must_rejoin = False
        self._close_askers()
        client.close()
        self._apply_events()
        self._forget(tuple(self._phases))

    def _open_client(self) -> ConsumerClient:
        if os.getpid() != self._pid:
            raise RuntimeError("a Kafka client was inherited by a forked process, where its threads do not run")
        if self._client is None:
            raise RuntimeError("the consumer is not open")
        return self._client

    def _made_from(self, kafka: KafkaSettings) -> Callable[[ClientLog], ConsumerClient]:
        def make(client_log: ClientLog) -> ConsumerClient:
            config = {
                **consumer_config(kafka, self._spec.group),
                "enable.partition.eof": True,
                "on_commit": self._on_commit,
            }
            client: Any = make_client(Consumer, config, client_log)
            return cast("ConsumerClient", client)

        return make

    # Callbacks of the client. They record facts and never raise.

    def _on_assign(self, client: ConsumerClient, partitions: list[ClientPartition]) -> None:
        self._events.append(_Event(arrived=True, partitions=_own_partitions(partitions)))
        try:
            client.assign([])  # nothing is read before `place` knows where to begin
        except KafkaException as exception:
            self._callback_error = exception

    def _on_revoke(self, _client: ConsumerClient, partitions: list[ClientPartition]) -> None:
        self._events.append(_Event(arrived=False, partitions=_own_partitions(partitions)))

    def _on_commit(self, error: KafkaError | None, partitions: list[ClientPartition]) -> None:
        self._unanswered -= 1
        self._commit_errors += [found for found in (error, *(p.error for p in partitions)) if found is not None]

    def _apply_events(self) -> None:
        if self._callback_error is not None:
            error, self._callback_error = error_of(self._callback_error), None
            raise translated(error, f"joining {self._spec.group}")
        events, self._events = self._events, []
        for event in events:
            if not event.arrived:
                self._forget(event.partitions)
                continue
            self._phases.update(dict.fromkeys(event.partitions, _Phase.ARRIVED))
            if not event.partitions:
                self._listener.assigned(frozenset())
        if events:
            self._count_partitions()

    def _judge_commits(self) -> None:
        errors, self._commit_errors = self._commit_errors, []
        for error in errors:
            if is_moved(error):
                metrics.LOST_COMMITS.labels("moved").inc()
            else:
                metrics.LOST_COMMITS.labels("failed").inc()
                self._tolerate(error, "committing offsets")

    def _forget(self, partitions: Iterable[TopicPartition]) -> None:
        gone = {p: self._phases.pop(p) for p in partitions if p in self._phases}
        for partition in gone:
            self._starts.pop(partition, None)
            self._due.pop(partition, None)
            self._expected.pop((partition.topic, partition.partition), None)
        self._lag.forget(gone)
        announced = frozenset(p for p, phase in gone.items() if phase is not _Phase.ARRIVED)
        if announced:
            self._listener.revoked(announced)

    def _count_partitions(self) -> None:
        for topic in self._spec.topics:
            metrics.PARTITIONS.labels(topic).set(sum(p.topic == topic for p in self._phases))

    def _find_starts(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offsets at which to begin, as far as Kafka tells them now; it is waited for once."""
        client = self._open_client()
        starts: dict[TopicPartition, int] = {}
        try:
            answers = client.committed(_client_partitions(partitions), timeout=ANSWER_SECONDS)
        except KafkaException as exception:
            self._tolerate(error_of(exception), "reading committed offsets")
            return starts
        for found in answers:
            partition = TopicPartition(found.topic, found.partition)
            try:
                raise_for(found)
                starts[partition] = self._start(client, found)
            except KafkaException as exception:
                self._tolerate(error_of(exception), "reading committed offsets")
                # Its leader may be away for long: the next time all others come first.
                self._phases[partition] = self._phases.pop(partition)
                break
        return starts

    def _start(self, client: ConsumerClient, found: ClientPartition) -> int:
        low, high = client.get_watermark_offsets(found, timeout=ANSWER_SECONDS)
        if found.offset < 0:
            if low > 0:
                log.warning(
                    "no committed offset, and earlier records were deleted: this group is new, or was away for longer than the "
                    "broker retains offsets; starting at the earliest record",
                    group=self._spec.group,
                    topic=found.topic,
                    partition=found.partition,
                    first=low,
                )
            return low
        if low <= found.offset <= high:
            return found.offset
        lost = max(0, low - found.offset)
        metrics.GAP_RECORDS.labels(found.topic).inc(lost)
        log.error(
            "the committed offset is outside the topic; continuing at the earliest record",
            topic=found.topic,
            partition=found.partition,
            committed=found.offset,
            first=low,
            end=high,
            lost_records=lost,
            reason="records were deleted before they were read" if lost else "the topic was recreated or truncated",
        )
        return low

    def _tell(
        self, hear: Callable[[Collection[TopicPartition]], None], partitions: Collection[TopicPartition], phase: _Phase
    ) -> None:
        """Call the listener; if Kafka goes away while it loads its state, or it wants to, these partitions are placed again."""
        try:
            hear(partitions)
        except (ServerUnreachable, Retry) as error:
            self._stop_reading(partitions, phase)
            if isinstance(error, Retry):
                self._due.update(dict.fromkeys(partitions, self._clock() + error.after))
            elif self._throttle.admits():
                log.warning("Kafka does not respond; retrying", doing="loading state of partitions", error=str(error))

    def _begin_at(self, starts: Mapping[TopicPartition, int]) -> bool:
        """Let the client read from `starts`, and go on where it is with what it reads; return whether it does."""
        expected = self._expected | {(p.topic, p.partition): offset for p, offset in starts.items()}
        try:
            self._open_client().assign([ClientPartition(*source, offset) for source, offset in expected.items()])
        except KafkaException as exception:
            self._tolerate(error_of(exception), "setting positions")
            return False
        self._expected = expected
        self._starts.update(starts)
        self._phases.update(dict.fromkeys(starts, _Phase.READING))
        (self.pause if self._paused else self.resume)()
        return True

    def _stop_reading(self, partitions: Iterable[TopicPartition], phase: _Phase) -> None:
        """Drop what comes of `partitions` until they are placed again."""
        for partition in partitions:
            self._phases[partition] = phase
            self._expected.pop((partition.topic, partition.partition), None)

    def _accepted(self, messages: Iterable[Message]) -> list[Inbound]:
        """Return the records of placed partitions. Runs once a message: nothing here that can be done once a poll."""
        expected = self._expected
        records = []
        for message in messages:
            error = message.error()
            if error is not None:
                self._judge(error, message)
                continue
            record = inbound(message)
            source = (record.topic, record.partition)
            if source not in expected:
                continue
            if record.offset < expected[source]:
                self._went_back(record, expected[source])
                continue
            expected[source] = record.offset + 1
            records.append(record)
        self._count(records)
        return records

    def _went_back(self, record: Inbound, expected: int) -> None:
        if not self._must_rejoin:
            log.warning(
                "the client went back to records already delivered; rejoining the group",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                expected=expected,
            )
        self._must_rejoin = True

    def _count(self, records: Iterable[Inbound]) -> None:
        sizes: dict[str, list[int]] = {}
        for record in records:
            sizes.setdefault(record.topic, []).append(len(record.value or b""))
        for topic, of_topic in sizes.items():
            metrics.RECORDS_READ.labels(topic).inc(len(of_topic))
            metrics.BYTES_READ.labels(topic).inc(sum(of_topic))

    def _judge(self, error: KafkaError, message: Message) -> None:
        partition = message.partition()
        source = TopicPartition(message.topic() or "", -1 if partition is None else partition)
        if is_end(error):
            if (position := self._expected.get((source.topic, source.partition))) is not None:
                self._lag.read_out(source, position, message.offset() or 0)
        elif is_out_of_range(error):
            # Joining again places it, and `_start` tells the gap.
            self._must_rejoin |= self._phases.get(source) is _Phase.READING
        elif error.fatal():
            log.warning("the consumer failed; rejoining the group", error=error.str(), error_code=error.name())
            self._must_rejoin = True
        else:
            self._tolerate(error, f"reading {source.topic or self._spec.group}")

    def _tolerate(self, error: KafkaError, doing: str) -> None:
        """Say once a minute what passes by itself; raise what does not."""
        if not is_passing(error):
            raise translated(error, doing)
        if self._throttle.admits():
            log.warning("Kafka does not respond; retrying", doing=doing, error=error.str())


def inbound(message: Message) -> Inbound:
    """Return the value object of a client's message without error."""
    return Inbound(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp_ms=message.timestamp()[1],
        key=message.key(),
        value=message.value(),
        headers=_headers(message),
    )


def _headers(message: Message) -> Headers:
    """Return the headers; of a consumed message they are pairs of name and bytes, or None."""
    pairs: Any = message.headers() or ()
    if None in [value for _, value in pairs]:
        return tuple((name, value or b"") for name, value in pairs)
    return tuple(pairs)


def _own_partitions(partitions: Iterable[ClientPartition]) -> tuple[TopicPartition, ...]:
    return tuple(TopicPartition(p.topic, p.partition) for p in partitions)


def _client_partitions(partitions: Iterable[TopicPartition]) -> list[ClientPartition]:
    return [ClientPartition(p.topic, p.partition) for p in partitions]
