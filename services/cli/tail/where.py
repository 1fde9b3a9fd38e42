"""``blobtide tail --where``: rows that do not meet a condition are left out, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import pyarrow as pa

from libs.common.errors import ConfigError
from libs.common.rows.message import Message
from libs.common.rows.reading import Reader
from libs.common.rows.row_type import RowType
from libs.common.rows.select import Selection
from libs.common.rows.types import ROW_TYPES
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.resource_changes import RESOURCE_CHANGES
from libs.common.rows.types.resources import RESOURCES
from libs.common.settings.kafka import TopicSettings


@dataclass(slots=True)
class FilteredReader:
    """Reads the rows of a message that meet a condition, and counts the others."""

    read: Reader
    selection: Selection
    filtered: int = 0

    @classmethod
    def of(cls, read: Reader, row_type: RowType, where: str) -> Self:
        """Check a condition for rows of a type.

        Raises:
            ConfigError: if it is wrong.
        """
        try:
            return cls(read, Selection.of(row_type, where))
        except ConfigError as error:
            raise ConfigError(f"--where: {error}") from error

    def __call__(self, message: Message) -> pa.Table:
        """Return the rows of `message` that meet the condition."""
        selected = self.selection.select(self.read(message))
        self.filtered += selected.filtered
        return selected.rows


def row_type_of(topics: Sequence[str], settings: TopicSettings) -> RowType:
    """Return the type of the rows that `topics` (names in Kafka) carry; without topics, flows.

    Raises:
        ConfigError: if they do not carry rows of one type.
    """
    names = settings.model_dump()
    of_topic = {names[name]: kind for kind in ROW_TYPES.values() for name in (kind.topic, *kind.more_topics)}
    types = [of_topic.get(topic) for topic in topics] or [FLOWS]
    if types[0] is None or len(set(types)) > 1:
        *most, last = (kind.topic for kind in ROW_TYPES.values())
        known = f"{', '.join(most)} or {last}"
        raise ConfigError(f"--where needs topics with rows of one type, {known}; otherwise say with --rows what to read")
    return types[0]


def json_rows_in(topics: Sequence[str], settings: TopicSettings) -> RowType | None:
    """Return the type of the rows that `topics` (names in Kafka) carry if these are no batches, and say little as they are."""
    names = settings.model_dump()
    return next((kind for kind in (RESOURCES, RESOURCE_CHANGES) if set(topics) == {names[kind.topic]}), None)
