"""Settings of the parser."""

from __future__ import annotations

from pydantic import Field, field_validator

from libs.common.messages.events import Stream
from libs.common.settings.base import Group, listed
from libs.common.settings.logs import LogLineSettings


class ParserSettings(Group):
    """The parser."""

    streams: tuple[Stream, ...] = Field(
        default=tuple(Stream), min_length=1, description="Streams to read: a list, or comma-separated."
    )
    logs: LogLineSettings = LogLineSettings()
    poll_seconds: float = Field(default=1.0, gt=0, le=5, description="Seconds for which one poll collects segments.")
    poll_messages: int = Field(default=2_000, ge=1, description="Segments after which a poll ends early.")
    poll_bytes: int = Field(default=8_388_608, ge=1_000_000, description="Bytes after which a poll ends early.")
    batch_bytes: int = Field(
        default=4_000_000, ge=100_000, le=8_000_000, description="Maximum size of a batch of rows, uncompressed."
    )
    dead_letter_limit: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Share of the tuples or lines of a stream that may be dead-lettered before the parser stops; 1 never "
        "stops it.",
    )
    quarantine_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Share of bad tuples or lines above which a blob is quarantined: its segments then go to Errors by "
        "reference. 1 disables quarantine.",
    )
    quarantine_records: int = Field(
        default=100,
        ge=1,
        le=5_000,
        description="Number of tuples or lines, from a blob's first bad one, after which it is judged.",
    )

    _comma_separated = field_validator("streams", mode="before")(listed)
