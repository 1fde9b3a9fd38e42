"""The client's messages as our values."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Message

from libs.common.kafka.records import Inbound
from libs.common.messages.headers import Headers


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
