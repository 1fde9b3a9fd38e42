"""Read a message of ``Meta.ResourceChanges`` as rows of type `resource_changes`. Pure."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from libs.common.errors import CodecError
from libs.common.messages.resource_changes import CHANGED, PathChange, ResourceChange, decode_change
from libs.common.rows.letters import TopicIds
from libs.common.rows.message import Message
from libs.common.rows.types.resource_changes import RESOURCE_CHANGES


def change_rows(message: Message, topic_id: TopicIds) -> pa.Table:
    """Return a message as a table of type `RESOURCE_CHANGES`: one row a value that has changed, or one for the resource.

    Raises:
        CodecError: if the message is not about changes.
    """
    change = decode_change(message.value or b"")
    if (change.change == CHANGED) != bool(change.paths):
        raise CodecError("not a change of a resource: only what has changed has paths")
    position = RESOURCE_CHANGES.position
    known = _of_resource(change) | {
        position.source: f"{message.topic}/{message.partition}",
        position.generation: topic_id(message.topic),
        position.offset: message.offset,
    }
    values = [_of_path(path) for path in change.paths] or [{"change": change.change}]
    rows = [known | row | {position.index: index} for index, row in enumerate(values)]
    try:
        return pa.Table.from_pylist(rows, schema=RESOURCE_CHANGES.schema)
    except (pa.ArrowException, OverflowError, ValueError) as error:
        raise CodecError(f"not a change of a resource: {error}") from error


def _of_resource(change: ResourceChange) -> dict[str, Any]:
    return {
        "time": change.time,
        "id": change.id,
        "type": change.type,
        "name": change.name,
        "resource_group": change.resource_group,
        "subscription": change.subscription,
        "old_hash": change.old_hash,
        "new_hash": change.new_hash,
        "api_version": change.api_version,
        "message_id": change.message_id,
        "request_index": change.request_index,
    }


def _of_path(path: PathChange) -> dict[str, Any]:
    return {
        "change": path.change,
        "path": path.path,
        "old": path.old,
        "new": path.new,
        "old_size": path.old_size,
        "new_size": path.new_size,
    }
