"""Read rows from Kafka messages: how a message of each row type becomes a table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import pyarrow as pa

from libs.common.errors import CodecError
from libs.common.messages.headers import Headers
from libs.common.rows.change_messages import change_rows
from libs.common.rows.letters import TopicIds, letter_rows
from libs.common.rows.message import Message
from libs.common.rows.resource_messages import resource_rows
from libs.common.rows.row_type import RowType
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.resource_changes import RESOURCE_CHANGES
from libs.common.rows.types.resources import RESOURCES
from libs.common.rows.wire import TYPE_HEADER, decode_rows

Reader = Callable[[Message], pa.Table]
"""Returns the rows of a message in the schema of one row type; raises `CodecError` if it does not hold such rows."""

_EARLIER_TYPES: Final = {"flow-batch": FLOWS.name}
"""Header ``type`` of messages that do not state their row type: all messages from before there was a second row type."""


def reader_of(row_type: RowType, topic_id: TopicIds) -> Reader:
    """Return a reader for messages of that row type's topic.

    `topic_id` is called once per message, and only for row types whose position needs it (`DEAD_LETTERS`, `RESOURCES`,
    `RESOURCE_CHANGES`). Its exceptions pass through the reader.
    """
    if row_type is DEAD_LETTERS:
        return partial(letter_rows, topic_id=topic_id)
    if row_type is RESOURCES:
        return partial(resource_rows, topic_id=topic_id)
    if row_type is RESOURCE_CHANGES:
        return partial(change_rows, topic_id=topic_id)
    return batch_reader(row_type)


def batch_reader(row_type: RowType) -> Reader:
    """Return a reader for messages whose value is a batch of that row type, wherever they come from."""
    return partial(_batch, row_type)


def stated_row_type(headers: Headers) -> str | None:
    """Return the row type that a message states for its batch; None if the message does not hold a batch."""
    told = {name: value.decode(errors="replace") for name, value in headers if name in {"type", "row-type"}}
    if told.get("type") == TYPE_HEADER:
        return told.get("row-type", "")
    return _EARLIER_TYPES.get(told.get("type", ""))


def _batch(row_type: RowType, message: Message) -> pa.Table:
    """Read a batch. The schema in the value decides; the header serves only to refuse other messages early."""
    stated = stated_row_type(message.headers)
    if stated not in (None, row_type.name):
        raise CodecError(f"not a batch of {row_type.name}: its header says {stated[:100]!r}")
    return decode_rows(row_type, message.value or b"")
