"""A member of a consumer group whose positions are always known, and always come from the committed offsets.

Rebalance callbacks only record what happened; everything that blocks or may raise (reading committed offsets, seeking, the
listener) happens in `poll`, in the caller's thread, before a record is delivered. A partition is *placed* before it is read:

* committed offset on the broker: start there;
* none: start at the beginning, and log it if that is no longer offset 0;
* outside the topic's range: count and log the exact gap, and start at the earliest record. Never skip silently;
* no partition of the same number in each partner topic: wait, unread, until there is one (`partners.py`).

The client only ever gets absolute positions, and only through `assign`. A logical one (BEGINNING) makes it query the broker in
the background, and it repeats the query half a second later if a pause or seek intervened: that late response overwrites the
position sought since (librdkafka 2.16, `rd_kafka_toppar_handle_Offset`), and everything is read twice. For the same reason a
placed partition delivers each offset once and in order, whatever the client does: if it goes back, we rejoin the group.

A broker outage is not an error here: `poll` returns nothing, logs it once a minute, and continues when the broker is back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, cast

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from libs.common.errors import Retry, ServerUnreachable
from libs.common.kafka.client import metrics
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.configs import consumer_config, make_client
from libs.common.kafka.client.failures import error_of
from libs.common.kafka.client.outages import Outages
from libs.common.kafka.client.protocols import ConsumerClient
from libs.common.kafka.group.commits import Commits
from libs.common.kafka.group.delivery import DeliveryOrder
from libs.common.kafka.group.lag import Lag
from libs.common.kafka.group.membership import GroupSpec, Membership, Use
from libs.common.kafka.group.partners import Partners
from libs.common.kafka.group.placements import Phase, Placements
from libs.common.kafka.group.starts import ANSWER_SECONDS, Starts
from libs.common.kafka.records import Inbound, Listener, TopicPartition
from libs.common.settings.kafka import KafkaSettings

_COMMIT_AGAIN_SECONDS: Final = 1.0


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
        self._clock = clock
        self._longest_pause = kafka.max_poll_interval_ms / 1000
        self._lag = Lag(kafka, clock)
        self._partners = Partners(kafka, spec.topics, spec.partners, clock)
        self._paused = False
        self._is_idle = False  # the group has assigned nothing, and the listener does not know yet
        self._last_poll = self._commit_at = clock()
        self._outages = Outages(clock)
        self._placements = Placements()
        self._starts = Starts(spec.group, self._outages)
        self._commits = Commits(self._outages)
        self._membership = Membership(spec, make or _client_maker(kafka, spec.group, self._commits))
        self._delivery = DeliveryOrder(spec.group, self._placements, self._lag, self._outages)

    def open(self) -> None:
        """Join the group."""
        self._commits.reset()
        self._membership.join()
        self._last_poll = self._clock()

    def poll(self, max_records: int, seconds: float, *, place: bool = True) -> list[Inbound]:
        """Return what arrives within `seconds`; listeners are called first. Without `place`, no new partition is started."""
        client = self._membership.client()
        if self._delivery.must_rejoin:
            self.rejoin()
            client = self._membership.client()
        self._partners.look()
        self._placements.stop([p for p in self.readable() if not self._partners.has(p)], Phase.REWINDING)
        if place:
            self.place()
        messages = client.consume(max_records, seconds)
        self._last_poll = self._clock()
        self._apply_events()
        self._commits.judge()
        self._commit_again()
        if self._spec.use is Use.READ:
            self._lag.publish(self._placements.starts)
        return self._delivery.accepted(messages)

    def place(self) -> None:
        """Assign waiting partitions at their committed offsets and tell the listener; those not ready keep waiting."""
        self._tell_idle()
        placements = self._placements
        waiting = placements.waiting(self._clock())
        held = {partition for partition in waiting if not self._partners.has(partition)}
        unknown = [partition for partition in waiting if partition not in held or partition not in placements.starts]
        found = self._find_starts(unknown) if unknown else {}
        placements.starts.update({p: offset for p, offset in found.items() if p in held})  # for their lag
        starts = {p: offset for p, offset in found.items() if p not in held}
        arrived = frozenset(p for p in starts if placements.is_in(p, Phase.ARRIVED))
        if not starts or not self._begin_at(starts):
            return
        if arrived:
            self._tell(self._listener.assigned, arrived, Phase.ARRIVED)
        if rewound := frozenset(starts) - arrived:
            metrics.REWINDS.inc()
            self._tell(self._listener.rewound, rewound, Phase.REWINDING)

    def trouble(self) -> str:
        """Return why partitions wait that could otherwise be read; empty if none do."""
        return self._partners.trouble()

    def owned(self) -> frozenset[TopicPartition]:
        """Return the partitions announced to the listener."""
        return self._placements.owned()

    def readable(self) -> frozenset[TopicPartition]:
        """Return the placed partitions: only their offsets may be committed."""
        return self._placements.readable()

    def unmoved(self) -> dict[TopicPartition, int]:
        """Return the committed position of one partition, to be committed again."""
        return self._placements.unmoved()

    def moved(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Record committed offsets."""
        self._placements.moved(offsets)

    def rewind(self) -> None:
        """Discard uncommitted deliveries; `place` goes back to the committed offsets."""
        self._placements.stop(self.readable(), Phase.REWINDING)

    def group_metadata(self) -> bytes | None:
        """Return the proof of membership, or None if there is none: a commit without it would not be fenced."""
        if self._clock() - self._last_poll > self._longest_pause:
            return None
        return self._membership.metadata()

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit offsets that are still ours, outside a transaction. A later `poll` repeats a failed one, or raises.

        It does not wait: the client's synchronous commit blocks for as long as the coordinator hangs.
        """
        ours = {p: offset for p, offset in offsets.items() if p in self.readable()}
        if ours:
            self._commits.send(self._membership.client(), ours)
            self.moved(ours)

    def _commit_again(self) -> None:
        """Repeat commits that failed, once a second: if nothing more arrives to be committed, nobody else would."""
        failed = self._commits.failed()
        if failed and self._clock() >= self._commit_at:
            self._commit_at = self._clock() + _COMMIT_AGAIN_SECONDS
            self.commit({p: self._placements.starts[p] for p in failed & self.readable()})

    def pause(self) -> None:
        """Deliver nothing until `resume`, not even from partitions assigned later."""
        self._paused = True
        self._membership.client().pause(_client_partitions(self.readable()))

    def resume(self) -> None:
        """Resume delivery."""
        self._paused = False
        self._membership.client().resume(_client_partitions(self.readable()))

    def rejoin(self) -> None:
        """Leave the group and rejoin it with a new client: all partitions are revoked, then assigned again."""
        metrics.REJOINS.inc()
        self._leave()
        self.open()

    def close(self) -> None:
        """Leave the group once the last commits are answered, within a few seconds. Idempotent."""
        if not self._membership.is_open:
            return
        deadline = self._clock() + ANSWER_SECONDS
        while self._commits.unanswered and self._clock() < deadline:
            self._membership.client().consume(1, 0.05)
        if self._commits.unanswered:
            self.abandon()
        else:
            self._leave()

    def abandon(self) -> None:
        """Drop the client without leaving the group, which would wait for a broker that is down. Idempotent."""
        self._membership.drop()
        self._close_askers()
        self._forget(self._placements.all())

    def _close_askers(self) -> None:
        self._lag.close()
        self._partners.close()

    def _leave(self) -> None:
        client = self._membership.client()
        self._membership.drop()
        self._delivery.must_rejoin = False
        self._close_askers()
        client.close()
        self._apply_events()
        self._forget(self._placements.all())

    def _apply_events(self) -> None:
        events = self._membership.rebalances()
        for event in events:
            if not event.arrived:
                self._is_idle = False
                self._forget(event.partitions)
                continue
            self._placements.arrive(event.partitions)
            self._is_idle = not event.partitions
        if events:
            self._count_partitions()
        self._tell_idle()

    def _tell_idle(self) -> None:
        """Tell the listener that there are no partitions; later, if it raises because Kafka is down or it asks for a retry."""
        if not self._is_idle:
            return
        try:
            self._listener.assigned(frozenset())
        except (ServerUnreachable, Retry) as error:
            self._outages.say("waiting for partitions", str(error))
        else:
            self._is_idle = False

    def _forget(self, partitions: Iterable[TopicPartition]) -> None:
        gone = self._placements.forget(partitions)
        self._lag.forget(gone)
        announced = frozenset(p for p, phase in gone.items() if phase is not Phase.ARRIVED)
        if announced:
            self._listener.revoked(announced)

    def _count_partitions(self) -> None:
        for topic in self._spec.topics:
            metrics.PARTITIONS.labels(topic).set(sum(p.topic == topic for p in self._placements.all()))

    def _find_starts(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offsets at which to start, as far as Kafka provides them now."""
        found, untold = self._starts.find(self._membership.client(), partitions)
        if untold is not None:
            # Its leader may be down for a long time: next time, try all others first.
            self._placements.put_last(untold)
        return found

    def _tell(
        self, hear: Callable[[Collection[TopicPartition]], None], partitions: Collection[TopicPartition], phase: Phase
    ) -> None:
        """Call the listener; if it raises because Kafka is down or it asks for a retry, these partitions are placed again."""
        try:
            hear(partitions)
        except (ServerUnreachable, Retry) as error:
            self._placements.stop(partitions, phase)
            if isinstance(error, Retry):
                self._placements.delay(partitions, self._clock() + error.after)
            else:
                self._outages.say("loading state of partitions", str(error))

    def _begin_at(self, starts: Mapping[TopicPartition, int]) -> bool:
        """Assign `starts` in addition to the partitions already being read; return whether that succeeded."""
        expected = self._placements.expected_with(starts)
        try:
            self._membership.client().assign([ClientPartition(*source, offset) for source, offset in expected.items()])
        except KafkaException as exception:
            self._outages.tolerate(error_of(exception), "setting positions")
            return False
        self._placements.begin(starts)
        (self.pause if self._paused else self.resume)()
        return True


def _client_partitions(partitions: Iterable[TopicPartition]) -> list[ClientPartition]:
    return [ClientPartition(p.topic, p.partition) for p in partitions]


def _client_maker(kafka: KafkaSettings, group: str, commits: Commits) -> Callable[[ClientLog], ConsumerClient]:
    def make(client_log: ClientLog) -> ConsumerClient:
        config = {**consumer_config(kafka, group), "enable.partition.eof": True, "on_commit": commits.answered}
        client: Any = make_client(Consumer, config, client_log)
        return cast("ConsumerClient", client)

    return make
