"""The ``archive`` sink: snapshots as NDJSON, in a zip for each source and interval. Promise: effectively once. Stable.

A file holds the records of one source, one a line. It is in a zip of its own, ``2026_05_01_12-00-00_flowinfo_json.zip``, as
the member ``2026_05_01_12-00-00_flowinfo.json``. The name says when the file begins (UTC) and what it is of. If a file of the
directory has had that name before, the next second is taken, even after a restart, and even if that file is gone.

Rows are durable when a write returns: they wait in the hidden directory ``.blobtide``, and are committed there together with
how far every run of every source has been written, so that rows that come again, in whatever batches, add nothing. After
`rotate_seconds`, or when there are enough, they become files there. These are synced, compressed several at a time, and removed
when their zip has been synced, read again and compared with them. Only then does a zip appear under its name. A crash at any
step is recovered when the directory is opened; see `services.sinks.local_state.shard_store` and
`services.sinks.kinds.archive.zipping` for the steps. If the disk is full, the sink waits and says so.

Several workers may share a directory; each shard belongs to one of them at a time. Positions are kept per shard, so a topic
with a different number of partitions needs its own directory.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from pydantic import Field, model_validator

from libs.common.rows.row_type import RowType
from libs.common.rows.types.snapshots import SNAPSHOTS
from services.sinks.kinds.archive.layout import BySource
from services.sinks.kinds.archive.lines import write_records
from services.sinks.kinds.archive.names import ZIP_END
from services.sinks.kinds.archive.zipping import zip_files
from services.sinks.local_state.files_sink import LocalFilesSink
from services.sinks.local_state.settings import LocalFilesSettings
from services.sinks.local_state.shard_store import FileLimits, FileOutlet, Publication, sync_directory


class ArchiveSettings(LocalFilesSettings):
    """Options of the archive sink."""

    rows: str = Field(default=SNAPSHOTS.name, description="Row type: only snapshots.")
    rotate_seconds: float = Field(
        default=300.0, gt=0, description="Length of the interval of a file in seconds, counted from its first snapshot."
    )
    rotate_rows: int = Field(default=100_000, ge=1, description="Maximum number of snapshots in a file.")
    rotate_bytes: int = Field(
        default=67_108_864, ge=1, le=1_073_741_824, description="Maximum size of a file in bytes, before it is compressed."
    )
    zip_threads: int = Field(default=2, ge=1, le=16, description="How many files are compressed at the same time.")
    remember_days: int = Field(
        default=400,
        ge=1,
        description="Days without snapshots after which a run of a source is forgotten; a replay then writes it again.",
    )

    @model_validator(mode="after")
    def _records_are_whole(self) -> Self:
        if given := [name for name in ("columns", "rename", "fields", "sample") if name in self.model_fields_set]:
            raise ValueError(f"{given[0]} has no effect on records, which are written as they are; the archive supports where")
        return self

    def limits(self) -> FileLimits:
        """Return when a file is complete."""
        return FileLimits(self.rotate_rows, self.rotate_bytes, self.rotate_seconds)


class ArchiveSink(LocalFilesSink):
    """Snapshots into zips; see the module."""

    row_types = (SNAPSHOTS.name,)

    def __init__(
        self, settings: ArchiveSettings, row_type: RowType = SNAPSHOTS, clock: Callable[[], float] = time.time
    ) -> None:
        self._directory = settings.directory
        self._threads = settings.zip_threads
        outlet = FileOutlet(
            settings.directory,
            row_type.schema,
            "",  # the layout names all files
            ZIP_END,
            write_records,
            settings.limits(),
            BySource(settings.rotate_seconds),
            self._publish,
        )
        super().__init__(settings, "archive", outlet, clock)

    def _publish(self, publication: Publication) -> None:
        zip_files([(part, self._directory / final) for part, final in publication.files], self._threads)
        sync_directory(self._directory)
