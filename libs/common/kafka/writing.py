"""Write a few records outside a transaction, for commands that people run: durable when `write` returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from confluent_kafka import KafkaError, Message, Producer

from libs.common.errors import ServerUnreachable
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.configs import make_client, producer_config
from libs.common.kafka.client.failures import RAISED_WHILE_SERVING, error_of, translated
from libs.common.kafka.records import Outbound
from libs.common.settings.kafka import KafkaSettings

WRITE_SECONDS: Final = 10.0


def write(kafka: KafkaSettings, records: Sequence[Outbound]) -> None:
    """Write `records`; return when all are acknowledged.

    Raises:
        ServerUnreachable: not all of them were acknowledged in time; write all of them again.
        BlobtideError: Kafka refuses one, for example because of missing rights.
    """
    if not records:
        return
    make: Callable[..., Any] = Producer
    producer = cast("Any", make_client(make, producer_config(kafka), ClientLog("writer")))
    problems: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            problems.append(error)

    topics = ", ".join(sorted({record.topic for record in records}))
    try:
        for record in records:
            where = {} if record.partition is None else {"partition": record.partition}
            headers = list(record.headers)
            producer.produce(record.topic, record.value, record.key, headers=headers, on_delivery=on_delivery, **where)
        left = producer.flush(WRITE_SECONDS)
    except RAISED_WHILE_SERVING as error:
        raise translated(error_of(error), f"writing to {topics}") from error
    if problems:
        raise translated(problems[0], f"writing to {topics}")
    if left:
        raise ServerUnreachable(f"Kafka did not acknowledge what was written to {topics} within {WRITE_SECONDS:.0f} s")
