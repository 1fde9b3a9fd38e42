"""The common part of destinations that take one message per row.

`PayloadSink` makes the payloads in a format, and leaves it to the kind where a message goes. `MessageSink` adds a topic and a
key from settings: a kind derives its settings from `MessageSettings` and its sink from `MessageSink`, and implements `send`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from pydantic import Field

from libs.common.errors import ConfigError
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.formats.encoders import RowFormat, encoder_for
from libs.common.rows.identity import Identities
from libs.common.rows.row_type import RowType
from services.sinks.frame.contract import Outcome, Part, RejectedRow, Sink
from services.sinks.frame.settings import DocumentBatchSettings, SinkSettings
from services.sinks.frame.template import Template, Topics

MESSAGES_AT_ONCE: Final = 4_096
"""Bounds the memory that a write needs in addition to its batch."""


class PayloadSettings(SinkSettings):
    """Settings of every sink that writes a message per row."""

    batch: DocumentBatchSettings = DocumentBatchSettings()
    format: RowFormat = Field(
        default=RowFormat.JSON, description="Format of messages: json, ecs (flows only), otel, csv, line or avro."
    )
    schema_id: int | None = Field(
        default=None,
        ge=0,
        lt=2**32,
        description="avro: id of the schema in a registry, for Confluent's wire format. Default: single-object encoding.",
    )


class MessageSettings(PayloadSettings):
    """Settings of every sink whose messages have a topic and a key."""

    topic: str = Field(
        default="blobtide/{rows}",
        min_length=1,
        description="Topic of each message. {column} inserts a column's value, made safe for a name.",
    )
    key: str | None = Field(
        default=None,
        description="Key of each message. {column} inserts a column's value. Default: the row's source, such as its blob.",
    )
    max_topics: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        description="Maximum number of different topics per process; rows for further topics are dead-lettered.",
    )


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """A message that the destination permanently refuses: its index among those that were sent together, and why."""

    message: int
    code: ErrorCode
    reason: str


@dataclass(frozen=True, slots=True)
class Messages:
    """Some rows of a part as messages, in their order.

    Attributes:
        rows: the row of each message, as an index in its part.
        ids: the identity of each row as text, the same in every replay.
        keys, topics, payloads: as required by the settings.
        table: the rows themselves.
        refused: rows from the same range that cannot become messages; they are not in the lists above.
    """

    rows: Sequence[int]
    ids: Sequence[str]
    keys: Sequence[bytes | None]
    topics: Sequence[str]
    payloads: Sequence[bytes]
    table: pa.Table
    refused: Sequence[tuple[int, str]] = ()


class PayloadSink(Sink):
    """Rows as messages, which carry the identity of their row. Promise: at least once, unless a kind promises more."""

    def __init__(self, settings: PayloadSettings, row_type: RowType) -> None:
        """Check the settings against the row type. Raises `ConfigError`."""
        self._row_type = row_type
        self._encoder = encoder_for(settings.format, row_type, settings.shape(row_type), settings.schema_id)

    @property
    def content_type(self) -> str:
        """The media type of every message."""
        return self._encoder.content_type

    @abstractmethod
    def topics(self, rows: pa.Table) -> tuple[list[str], list[str | None]]:
        """Return the topic of each row, and why it cannot be used (None if it can)."""

    def keys(self, rows: pa.Table) -> list[bytes | None]:
        """Return the key of each row."""
        return [None] * rows.num_rows

    @abstractmethod
    def deliver(self, messages: Messages) -> Iterable[RefusedMessage]:
        """Send messages in order and return those refused, once all others are acknowledged.

        Raises:
            Retry: if not all of them were; all will be sent again.
        """

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Send a message for every row."""
        rejected: list[RejectedRow] = []
        for number, part in enumerate(parts):
            for messages in self.messages(part):
                rejected += self.rejected(number, messages, self.deliver(messages))
        return Outcome(sum(part.rows.num_rows for part in parts) - len(rejected), 0, tuple(rejected))

    def messages(self, part: Part) -> Iterator[Messages]:
        """Make messages from the rows of a part, a bounded number at a time."""
        for start in range(0, part.rows.num_rows, MESSAGES_AT_ONCE):
            yield self._messages(part.rows.slice(start, MESSAGES_AT_ONCE), start)

    @staticmethod
    def rejected(part: int, messages: Messages, refused: Iterable[RefusedMessage]) -> Iterator[RejectedRow]:
        """Yield the rows that were refused, by the destination or before."""
        for refusal in refused:
            yield RejectedRow(part, messages.rows[refusal.message], refusal.code, refusal.reason)
        for row, reason in messages.refused:
            yield RejectedRow(part, row, ErrorCode.REFUSED, reason)

    def _messages(self, rows: pa.Table, start: int) -> Messages:
        topics, objections = self.topics(rows)
        refused = [(start + at, objection) for at, objection in enumerate(objections) if objection is not None]
        places: Sequence[int] = range(rows.num_rows)
        if refused:
            places = [at for at, objection in enumerate(objections) if objection is None]
            rows, topics = rows.take(pa.array(places, pa.int64())), [topics[at] for at in places]
        ids = Identities.of(rows, self._row_type.position).document_ids().to_pylist()
        numbers = [start + at for at in places]
        return Messages(numbers, ids, self.keys(rows), topics, self._encoder.encode(rows), rows, refused)


class MessageSink(PayloadSink):
    """Messages with a topic and a key from the settings."""

    def __init__(self, settings: MessageSettings, row_type: RowType) -> None:
        """Check the settings against the row type. Raises `ConfigError`."""
        super().__init__(settings, row_type)
        self._most_topics = settings.max_topics
        self.use_topic(settings.topic)
        self._key = Template.parse("key", settings.key or f"{{{row_type.position.source}}}", row_type)

    def use_topic(self, template: str) -> None:
        """Make topics from a template. Raises `ConfigError` if it makes unacceptable names."""
        self._topic = Template.parse("topic", template.replace("{rows}", self._row_type.name), self._row_type)
        self.check_topic()
        self._topics = Topics(self._topic, self._most_topics, self.objection_to)

    @property
    def topic_name(self) -> str | None:
        """The topic, if it is the same for all rows."""
        return None if self._topic.columns else self._topic.texts[0]

    def check_topic(self) -> None:
        """Check that the template makes acceptable names. Raises `ConfigError`."""
        if objection := self.objection_to(self._topic.example()):
            raise ConfigError(f"topic: {objection}")

    def objection_to(self, topic: str) -> str | None:
        """Return why a topic of that name cannot be used; None if it can. Called once per name."""
        del topic
        return None

    def topics(self, rows: pa.Table) -> tuple[list[str], list[str | None]]:
        """Make topics from the settings."""
        return self._topics.of(rows)

    def keys(self, rows: pa.Table) -> list[bytes | None]:
        """Make keys from the settings."""
        return self._key.keys(rows)

    def deliver(self, messages: Messages) -> Iterable[RefusedMessage]:
        """Send messages by their columns."""
        return self.send(messages.ids, messages.keys, messages.topics, messages.payloads)

    @abstractmethod
    def send(
        self, ids: Sequence[str], keys: Sequence[bytes | None], topics: Sequence[str], payloads: Sequence[bytes]
    ) -> Iterable[RefusedMessage]:
        """Send messages in order and return those refused, once all others are acknowledged.

        Raises:
            Retry: if not all of them were; all will be sent again.
        """
