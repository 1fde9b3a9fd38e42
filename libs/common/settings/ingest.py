"""Settings of ingest."""

from __future__ import annotations

from pydantic import Field

from libs.common.settings.base import Group


class IngestSettings(Group):
    """The ingest service."""

    segment_bytes: int = Field(default=900_000, ge=10_000, le=4_000_000, description="Maximum size of a segment.")
    concurrency: int = Field(default=16, ge=1, le=256, description="Number of blobs read concurrently.")
    read_bytes: int = Field(
        default=4_194_304, ge=65_536, description="Bytes read from one blob per step; capped by `commit_bytes`."
    )
    decoder_bytes: int = Field(
        default=33_554_432,
        ge=0,
        description="Memory for decoders of compressed blobs that are kept between steps. Without one, what was read of an "
        "incomplete gzip member or zstd frame is decoded again when it grows.",
    )
    commit_seconds: float = Field(default=1.0, gt=0, le=5, description="Maximum seconds between transactions.")
    commit_bytes: int = Field(default=16_777_216, ge=1_000_000, description="Bytes after which a transaction is committed.")
    give_up_hours: float = Field(
        default=168.0,
        gt=0,
        description="Age of an announcement, in hours, after which a blob that storage keeps refusing goes to Errors by "
        "reference. Must be less than the retention of Ingestion.Blobs.",
    )
    max_line_bytes: int = Field(
        default=1_048_576,
        ge=1_000,
        le=4_000_000,
        description="Maximum length of a line; longer ones go to Errors by reference.",
    )
