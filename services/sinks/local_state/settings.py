"""Settings of kinds that write files to a directory and keep their state beside them."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.sinks.frame.settings import SinkSettings


class LocalFilesSettings(SinkSettings):
    """Where files are written, when they are complete, and how long the state is kept."""

    directory: Path = Field(
        description="Directory for the files, created if missing. Its hidden .blobtide holds the sink's state."
    )
    rotate_seconds: float = Field(
        default=60.0, gt=0, description="Maximum age of a file in seconds, counted from its first row."
    )
    flush_on_close: bool = Field(
        default=True, description="Complete the files when stopping; otherwise rows wait for the next start."
    )
    remember_days: int = Field(
        default=400,
        ge=1,
        description="Days without rows after which a blob is forgotten; a replay then writes or counts its rows again.",
    )

    @property
    def state_directory(self) -> Path:
        """The directory of the files, which contains the hidden state."""
        return self.directory
