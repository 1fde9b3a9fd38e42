"""The ``delta`` sink: rows of a Delta table, in a directory or in Azure storage, effectively once.

A table should get few large files, so rows do not go into it batch by batch. They wait in a local directory, like those of the
``file`` sink: durable when a write returns, together with how far every blob generation has been written, so that rows that
come again, in whatever batches, add nothing. After `commit_seconds`, or when there are enough, the rows of a shard become one
Parquet file per UTC day, the files are copied into the table, and one commit adds all of them. The commit carries an
application transaction (the id of the shard's state and a number that rises), by which a commit that was made is recognised
after a crash or a lost answer. `services.sinks.local_state.shard_store` lists the steps.

``blobtide sink-setup`` creates the table, partitioned by ``day``, and adds new columns later. ``blobtide sink-maintain`` joins
small files, deletes days after `retention_days`, and removes files that nobody needs. Several workers may share the directory;
each shard belongs to one of them at a time. A table may have any other writers, too.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa

from libs.common.errors import ConfigError
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.files import Encoding, FileCompression, FileFormat
from libs.common.rows.row_type import RowType
from libs.common.security.private_files import private_directory
from libs.common.settings import Settings
from services.sinks.frame.contract import Outcome, Part, RejectedRow
from services.sinks.frame.table import comments_of
from services.sinks.frame.times import END_SECOND, FIRST_SECOND, outside, without
from services.sinks.kinds.delta.files import DataFile
from services.sinks.kinds.delta.log import DeltaLog, at_start, columns_of, summary_of, while_writing
from services.sinks.kinds.delta.place import KIND, options_of, uri_of
from services.sinks.kinds.delta.schema import DAY, as_stored, fields, missing, stored_schema, table_schema
from services.sinks.kinds.delta.settings import DeltaSettings
from services.sinks.local_state.files_sink import LocalStateSink
from services.sinks.local_state.layout import ByTime, Period
from services.sinks.local_state.shard_store import HIDDEN, FileLimits, FileOutlet, Publication
from services.sinks.local_state.shards import Shards, ShardsSpec, first_written

_SETUP: Final = "run `blobtide sink-setup`"
_TEMPLATE: Final = "part-{shard:05}-{sequence:08}"


class DeltaSink(LocalStateSink):
    """Rows in a table; see the module."""

    def __init__(self, settings: DeltaSettings, row_type: RowType, clock: Callable[[], float] = time.time) -> None:
        """Check the settings against the row type. Raises `ConfigError`."""
        self._settings = settings
        self._row_type = row_type
        self._shape = settings.shape(row_type)
        self._schema = stored_schema(row_type, settings, self._shape)
        self._encoding = Encoding(FileFormat.PARQUET, FileCompression(settings.compression.value), arrow_types=False)
        self._log = DeltaLog(uri_of(settings), lambda: options_of(self._settings))
        self._id = ""
        outlet = FileOutlet(
            settings.directory,
            settings.rows_schema(row_type),
            _TEMPLATE,
            ".parquet",
            self._write_part,
            FileLimits(settings.commit_rows, settings.commit_bytes, settings.commit_seconds),
            ByTime(row_type.time, (Period.DAY,)),
            self._publish,
        )
        spec = ShardsSpec(f"{KIND} of {row_type.name}", outlet, self.prepare, settings.flush_on_close)
        super().__init__(spec, settings.remember_days, clock)

    def join(self, name: str, pipeline: Settings) -> None:
        """Sign in to the storage account as to all of Azure, unless it has settings of its own."""
        super().join(name, pipeline)
        account = self._settings.account
        if account is not None:
            self._settings = self._settings.model_copy(update={"storage": account.with_default(pipeline.azure)})

    def read_files(self) -> None:
        """Read the secrets of the storage account."""
        if self._settings.account is not None:
            options_of(self._settings)

    def setup(self) -> str:
        """Create the table or add the columns that it lacks."""
        place = uri_of(self._settings)
        with at_start(place):
            table = self._log.load()
            if table is None:
                schema = table_schema(self._row_type, self._shape, self._schema)
                self._log.create(schema, self._row_type.name, self._row_type.description)
                return f"created the table {place} with {len(schema.fields)} columns"
            lacking = missing(self._schema, columns_of(table), place)
            if lacking:
                self._log.add_columns(fields(self._schema, comments_of(self._row_type, self._shape), lacking))
        added = ", ".join(lacking)
        return f"added to the table {place}: {added}" if added else f"the table {place} has all columns"

    def maintain(self) -> str:
        """Delete days that are too old, join small files, and remove files that nobody needs."""
        settings, place = self._settings, uri_of(self._settings)
        done = []
        with at_start(place):
            table = self._log.load()
            if table is None:
                raise ConfigError(f"delta: there is no table at {place}: {_SETUP}")
            if settings.retention_days:
                first = datetime.fromtimestamp(self._clock(), UTC).date() - timedelta(days=settings.retention_days)
                deleted = table.delete(f"{DAY} < DATE '{first}'")
                done.append(f"deleted {deleted.get('num_removed_files', 0)} files of days before {first}")
            done.append(summary_of(table.optimize.compact(target_size=settings.target_bytes)))
            removed = table.vacuum(retention_hours=settings.vacuum_hours, dry_run=False)
            done.append(f"removed {len(removed)} unused files")
            table.create_checkpoint()
            table.cleanup_metadata()
        return f"the table {place}: {', '.join(done)}"

    def open(self) -> None:
        """Check the table and recover from a crash."""
        self._check_table()
        directory = self._settings.directory
        try:
            private_directory(directory / HIDDEN)
            self._id = first_written(directory / HIDDEN / "id", uuid.uuid4().hex)
        except OSError as error:
            raise ConfigError(f"cannot write to directory {directory}: {error.strerror}") from error
        # Names must never repeat in the table, even if another directory takes this one's place.
        outlet = replace(self._spec.outlet, template=f"{_TEMPLATE}-{self._id}")
        self._shards = Shards(replace(self._spec, outlet=outlet), self._clock)
        super().open()

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Make all rows durable, each once. Raises Retry if disk or table fail or another process holds a shard."""
        written = known = 0
        rejected: list[RejectedRow] = []
        for number, part in enumerate(parts):
            refused = outside(part.rows, FIRST_SECOND, END_SECOND)
            rejected += (RejectedRow(number, row, ErrorCode.REFUSED, _untimely(name)) for row, name in sorted(refused.items()))
            added, repeated = self.append(part, without(part.rows, refused))
            written, known = written + added, known + repeated
        return Outcome(written, known, tuple(rejected))

    def close(self) -> None:
        """Give up all shards, and the table."""
        super().close()
        self._log.forget()

    def _check_table(self) -> None:
        place = uri_of(self._settings)
        with at_start(place):
            table = self._log.load()
        if table is None:
            raise ConfigError(f"delta: there is no table at {place}: {_SETUP}")
        if lacking := missing(self._schema, columns_of(table), place):
            raise ConfigError(f"delta: the table {place} has no column {', '.join(lacking)}: {_SETUP}")
        if table.metadata().partition_columns != [DAY]:
            raise ConfigError(f"delta: the table {place} is not partitioned by {DAY}: give the sink another table")

    def _write_part(self, path: Path, tables: Iterable[pa.Table]) -> None:
        self._encoding.write(path, (as_stored(table, self._shape, self._schema) for table in tables))

    def _publish(self, publication: Publication) -> None:
        files = [DataFile.of(part, final) for part, final in publication.files]
        with while_writing(uri_of(self._settings)):
            self._log.publish(f"blobtide-{self._id}-{publication.shard}", publication.sequence, files)


def _untimely(column: str) -> str:
    return f"the time in column {column} is outside the years that a Delta table has (1 to 9999)"
