"""Settings that every sink has; a sink's own group derives from `SinkSettings`."""

from __future__ import annotations

from pydantic import Field

from libs.common.settings.base import Group


class BatchSettings(Group):
    """How much one write takes. A larger batch costs memory and latency and saves round trips and fsyncs."""

    seconds: float = Field(default=1.0, gt=0, le=5, description="How long one poll collects.")
    messages: int = Field(default=1_000, ge=1, description="Flow batches after which a poll ends early.")
    bytes: int = Field(default=8_388_608, ge=100_000, description="Bytes after which a poll ends early.")


class DocumentBatchSettings(BatchSettings):
    """Smaller: columns become ten times as many bytes of JSON, and a write should take seconds, not minutes."""

    bytes: int = Field(default=4_194_304, ge=100_000, description="Bytes after which a poll ends early.")


class SinkSettings(Group):
    """What every sink has."""

    batch: BatchSettings = BatchSettings()
    dead_letter_limit: float = Field(default=0.5, gt=0, le=1, description="Share of rows that may be dead-lettered.")
