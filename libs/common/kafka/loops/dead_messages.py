"""Dead letters of whole messages: value, key, headers and coordinates, unchanged."""

from __future__ import annotations

from collections.abc import Mapping

from libs.common.kafka.records import Inbound
from libs.common.messages.dead_letters import DeadLetter, ErrorCode


def dead_message(stage: str, code: ErrorCode, reason: str, record: Inbound) -> DeadLetter:
    """Return the dead letter of a whole message."""
    return DeadLetter(
        stage=stage,
        code=code,
        reason=reason,
        data=record.value or b"",
        key=record.key,
        source=coordinates(record),
        original=record.headers,
    )


def coordinates(record: Inbound) -> Mapping[str, str]:
    """Return topic, partition and offset, in the form of `DeadLetter.source`."""
    return {"topic": record.topic, "partition": str(record.partition), "offset": str(record.offset)}
