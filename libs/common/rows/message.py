"""The parts of a Kafka message that reading rows needs, so that nothing here depends on a Kafka client."""

from __future__ import annotations

from typing import Protocol

from libs.common.messages.headers import Headers


class Message(Protocol):
    """What `libs.common.rows.reading` needs from a message."""

    @property
    def topic(self) -> str:
        """The topic it was read from."""

    @property
    def partition(self) -> int:
        """Its partition."""

    @property
    def offset(self) -> int:
        """Its own offset."""

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since 1970: when it was created or appended, depending on the topic's timestamp type."""

    @property
    def key(self) -> bytes | None:
        """Its key."""

    @property
    def value(self) -> bytes | None:
        """Its value; None for a tombstone."""

    @property
    def headers(self) -> Headers:
        """Its headers, in order."""
