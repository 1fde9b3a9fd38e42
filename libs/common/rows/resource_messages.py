"""Read a message of ``Meta.Resources`` as a row of type `resources`. Pure."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pyarrow as pa

from libs.common.errors import CodecError
from libs.common.messages.resources import ResourceFacts, decode_resource
from libs.common.rows.letters import TopicIds
from libs.common.rows.message import Message
from libs.common.rows.types.resources import RESOURCES


def resource_rows(message: Message, topic_id: TopicIds) -> pa.Table:
    """Return a message as a table with one row of type `RESOURCES`.

    Raises:
        CodecError: if the message is not about a resource.
    """
    facts = decode_resource(message.value or b"")
    position = RESOURCES.position
    row = _values(facts) | {
        position.source: f"{message.topic}/{message.partition}",
        position.generation: topic_id(message.topic),
        position.offset: message.offset,
        position.index: 0,
    }
    try:
        return pa.Table.from_pylist([row], schema=RESOURCES.schema)
    except (pa.ArrowException, OverflowError, ValueError) as error:
        raise CodecError(f"not a resource: {error}") from error


def _values(facts: ResourceFacts) -> dict[str, Any]:
    return {
        "time": facts.time,
        "id": facts.id,
        "state": facts.state,
        "type": facts.type,
        "name": facts.name,
        "location": facts.location,
        "resource_group": facts.resource_group,
        "subscription": facts.subscription,
        "tags": json.dumps(facts.tags, ensure_ascii=False) if facts.tags else None,
        "properties": _text(facts.properties),
        "other": _text(facts.other),
        "api_version": facts.api_version,
        "content_hash": facts.content_hash,
        "first_seen": facts.first_seen,
        "last_seen": facts.last_seen or facts.time,
    }


def _text(value: msgspec.Raw) -> str | None:
    return bytes(value).decode(errors="replace") or None
