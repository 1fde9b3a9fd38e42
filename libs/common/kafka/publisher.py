"""Publish records to Kafka without a transaction: written when `publish` returns, perhaps twice after a failure, never lost.

The client is idempotent and chooses partitions by key like all our producers. What it holds is bounded. Only failed records
call back into Python, and the callbacks are made once: making one for each record would cost half as much as the record itself.
A client in an uncertain state is dropped with the records that it still holds, since the caller has them anyway.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Final, cast

from confluent_kafka import KafkaError, KafkaException, Producer

from libs.common.errors import Retry
from libs.common.kafka.client import metrics
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.configs import Config, check_reachable, make_client, missing_in, producer_config
from libs.common.kafka.client.failures import (
    RAISED_WHILE_SERVING,
    error_of,
    is_denied,
    is_other_record,
    is_passing,
    is_refusal,
    is_too_large,
    may_be_of_another,
    translated,
)
from libs.common.kafka.client.protocols import ProducerClient
from libs.common.kafka.records import Outbound
from libs.common.kafka.topics.topic_limits import TopicLimits
from libs.common.settings.kafka import KafkaSettings

# Between two calls of `between`; short compared with the seconds that a process has for shutting down.
_SLICE_SECONDS: Final = 0.5
_ROOM_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class PublisherSpec:
    """What is published, and how much of it may be in flight.

    Attributes:
        what: the records in the plural, such as "dead letters"; for messages and metrics.
        topics: topics known in advance; `open` checks that they exist and reads their size limits.
        records: how many records the client holds at most.
        bytes: how many bytes of records it holds at most, but never less than two of the largest messages.
        patience: seconds without an acknowledgement after which `publish` gives up and raises `Retry`.
    """

    what: str
    topics: tuple[str, ...] = ()
    records: int = 20_000
    bytes: int = 33_554_432
    patience: float = 3.0


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A record that Kafka will never accept as it is, by its index in the published records; all others were written."""

    index: int
    reason: str
    is_too_large: bool = False


class Publisher:
    """One producer. Belongs to one thread. Nothing happens before `open` or the first `publish`."""

    def __init__(
        self,
        kafka: KafkaSettings,
        spec: PublisherSpec,
        limits: TopicLimits | None = None,
        make: Callable[[Config, ClientLog], ProducerClient] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits or TopicLimits(kafka, spec.topics)
        self._kafka = kafka
        self._spec = spec
        self._make = make or _make
        self._clock = clock
        self._client: ProducerClient | None = None
        self._topics: frozenset[str] = frozenset()  # of the records that are being written
        self._failures: dict[int, KafkaError] = {}
        self._reports: list[Callable[[KafkaError | None, Any], None]] = []

    def open(self) -> None:
        """Check that the topics of the spec exist, and read their size limits. Optional: otherwise refusals reveal them.

        Raises:
            ServerUnreachable: if Kafka does not respond.
            ConfigError: if a topic does not exist, or its size limit is too small.
        """
        check_reachable(self._kafka, self._spec.topics)
        self.limits.read()

    def publish(self, records: Sequence[Outbound], between: Callable[[], None] = lambda: None) -> list[RefusedRecord]:
        """Write `records`; once each is acknowledged by all replicas or permanently refused, return the refused ones.

        While waiting, this calls `between` at least twice a second and passes its exceptions on.

        Raises:
            Retry: if not all were written; publish all of them again.
            ConfigError: if the size limit of a topic is too small.
            BlobtideError: if Kafka permanently refuses all of them, for example because of missing rights.
        """
        refused: list[RefusedRecord] = []
        try:
            self._serve()
            for start in range(0, len(records), self._spec.records):
                window = records[start : start + self._spec.records]
                found = [
                    RefusedRecord(start + one.index, one.reason, one.is_too_large) for one in self._window(window, between)
                ]
                refused += found
                metrics.PUBLISHED.labels(self._spec.what).inc(len(window) - len(found))
        except BaseException:
            self.close()
            raise
        return refused

    def close(self) -> None:
        """Drop the client without waiting; the caller must publish unacknowledged records again. Idempotent."""
        self._client = None

    def _window(self, window: Sequence[Outbound], between: Callable[[], None]) -> list[RefusedRecord]:
        """Write one window of records: as many as the client can hold at once."""
        refused: list[RefusedRecord] = []
        waiting: Sequence[int] = range(len(window))
        self._topics = frozenset(map(attrgetter("topic"), window))
        while waiting:
            self._failures = {}
            try:
                self._send(window, waiting, between)
                self._settle(between)
            except RAISED_WHILE_SERVING as error:
                raise self._problem(error_of(error), self._topics) from error
            now_refused, waiting = self._judge(window)
            refused += now_refused
        return refused

    def _send(self, window: Sequence[Outbound], waiting: Iterable[int], between: Callable[[], None]) -> None:
        """Pass records to the client: the inner loop of all writing, which does no more for each than it must."""
        client = self._open_client()
        reports = self._reports
        for index in range(len(reports), len(window)):
            reports.append(partial(self._report, index))
        produce = client.produce
        for index in waiting:
            record = window[index]
            partition, headers = -1 if record.partition is None else record.partition, list(record.headers)
            while True:
                try:
                    produce(record.topic, record.value, record.key, partition, reports[index], headers=headers)
                except BufferError:
                    self._progress(client, partial(client.poll, _ROOM_SECONDS), between)
                    continue
                except KafkaException as error:
                    reports[index](error_of(error), None)
                break

    def _report(self, index: int, error: KafkaError | None, _message: object) -> None:
        """Record the error of a failed record."""
        if error is not None:
            self._failures[index] = error

    def _settle(self, between: Callable[[], None]) -> None:
        """Wait until every record is acknowledged or has failed."""
        client = self._open_client()
        while len(client):
            self._progress(client, partial(client.flush, _SLICE_SECONDS), between)

    def _progress(self, client: ProducerClient, wait: Callable[[], object], between: Callable[[], None]) -> None:
        """Wait until the client holds fewer records."""
        held, until = len(client), self._clock() + self._spec.patience
        while True:
            wait()
            between()
            if len(client) < held:
                return
            if self._clock() >= until:
                what, seconds = self._spec.what, self._spec.patience
                raise Retry(self._missing() or f"Kafka acknowledged none of the pending {what} within {seconds:g} s")

    def _judge(self, window: Sequence[Outbound]) -> tuple[list[RefusedRecord], list[int]]:
        """Return permanently refused records, and records to send again because others in their batch were at fault."""
        failures = self._failures
        if world := {index: error for index, error in failures.items() if not (is_refusal(error) or is_other_record(error))}:
            raise self._problem(_worst(world.values()), {window[index].topic for index in world})
        unclear = {index for index, error in failures.items() if may_be_of_another(error, window[index].key)}
        is_named = any(is_refusal(error) and window[index].key is None for index, error in failures.items())
        again = {
            index: error
            for index, error in failures.items()
            if (is_named and index in unclear) or self._is_for_others(window[index], error)
        }
        if len(again) == len(failures) and not any(map(is_too_large, again.values())):
            again = {}  # for each of these, Kafka says that another record is at fault
        if too_large := {window[index].topic for index, error in again.items() if is_too_large(error)}:
            self.limits.refused(too_large)
            self.close()  # the next client sends smaller batches
        return [_refusal(index, error) for index, error in failures.items() if index not in again], list(again)

    def _is_for_others(self, record: Outbound, error: KafkaError) -> bool:
        """Return whether Kafka may accept `record` without those that were sent with it."""
        return is_other_record(error) or (is_too_large(error) and self.limits.takes(record))

    def _problem(self, error: KafkaError, topics: Iterable[str]) -> Exception:
        what = self._spec.what
        if not is_denied(error) and (error.fatal() or is_passing(error) or error.code() == KafkaError._MSG_TIMED_OUT):  # noqa: SLF001
            return Retry(f"{what} were not written: {self._missing() or error.str()}")
        return translated(error, f"writing {what} to {', '.join(sorted(topics))}")

    def _missing(self) -> str:
        """Return which topics do not exist, in words; empty if all do, or Kafka is away."""
        try:
            return missing_in(self._open_client(), self._topics)
        except RAISED_WHILE_SERVING:
            return ""

    def _serve(self) -> None:
        """Pass on the client's log messages since the last call; its problems show when it is used."""
        if self._client is not None:
            with suppress(*RAISED_WHILE_SERVING):
                self._client.poll(0)

    def _open_client(self) -> ProducerClient:
        if self._client is None:
            self._client = self._make(self._config(), ClientLog(self._spec.what))
        return self._client

    def _config(self) -> Config:
        most = max(self._spec.bytes, 2 * self._kafka.largest_message)
        bounds = {"queue.buffering.max.messages": self._spec.records, "queue.buffering.max.kbytes": most // 1024}
        chosen = {name: value for name, value in self._kafka.librdkafka.items() if name in bounds}
        config = {**producer_config(self._kafka), **bounds, **chosen, "delivery.report.only.error": True}
        return self.limits.config(config)


def _make(config: Config, log: ClientLog) -> ProducerClient:
    client: Any = make_client(Producer, config, log)
    return cast("ProducerClient", client)


def _worst(errors: Iterable[KafkaError]) -> KafkaError:
    """Return the error that waiting is least likely to resolve."""
    return min(errors, key=lambda error: (not is_denied(error), is_passing(error)))


def _refusal(index: int, error: KafkaError) -> RefusedRecord:
    return RefusedRecord(index, f"Kafka refused the record: {error.str()}", is_too_large(error))
