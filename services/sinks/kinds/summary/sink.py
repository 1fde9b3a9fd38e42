"""The ``summary`` sink: traffic per socket and minute. Promise: effectively once. Stable.

It prints a growing table of the sockets with the most bytes, and writes the sums of closed minutes to files, each row once.
`services.sinks.kinds.summary.fold` defines sockets, folding and sessions; `services.sinks.kinds.summary.state` defines when
minutes close and what happens to late flows. Files work like those of the ``file`` sink. Sums, sessions and the positions of
blobs are committed in one transaction, so a replay counts nothing twice. If nothing arrives for `lateness_seconds`, all open
minutes close.

Sums are kept per Kafka partition. To get the total of a (minute, socket), add up its rows of any kind in all files.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Self, TextIO

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from libs.common.rows.files import Encoding, FileCompression, FileFormat
from libs.common.rows.row_type import RowType
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.contract import Outcome, Part
from services.sinks.kinds.summary.fold import SOCKET, TOTALS, TRAFFIC, fold
from services.sinks.kinds.summary.state import SUMMARY_SCHEMA, Bounds, EventClock, SummaryState
from services.sinks.kinds.summary.table import Totals, summary_table
from services.sinks.local_state.files_sink import LocalStateSink
from services.sinks.local_state.positions import Positions
from services.sinks.local_state.settings import LocalFilesSettings
from services.sinks.local_state.shard_store import FileLimits, FileOutlet, ShardStore
from services.sinks.local_state.shards import ShardsSpec

_SECOND_MS: Final = 1_000
_MINUTE_MS: Final = 60_000
_TERMINAL: Final = (120, 24)
_FILE_ROWS: Final = 1_000_000
_FILE_BYTES: Final = 134_217_728
# A shard's own top list is longer than the combined one, since a socket may have some of its traffic in each shard.
_TOP_PER_SHARD: Final = 10


class SummarySettings(LocalFilesSettings):
    """Options of the summary sink."""

    format: FileFormat = Field(default=FileFormat.NDJSON, description="ndjson, csv or parquet.")
    lateness_seconds: float = Field(
        default=300.0, ge=0, description="Seconds after its end, in event time, at which a minute is closed."
    )
    udp_timeout_seconds: float = Field(
        default=120.0, gt=0, description="Seconds of silence after which a session without TCP ends."
    )
    forget_minutes: float = Field(default=60.0, gt=0, description="Minutes without flows after which a socket is forgotten.")
    max_sockets: int = Field(
        default=100_000,
        ge=1,
        description="Maximum number of sockets per partition; beyond it, the longest silent are forgotten.",
    )
    max_open_rows: int = Field(
        default=200_000, ge=1, description="Maximum number of open sums per partition; beyond it, all minutes are closed early."
    )
    print_seconds: float = Field(default=10.0, ge=0, description="Seconds between tables on standard output; 0: none.")
    top: int = Field(default=20, ge=1, le=1_000, description="Number of lines in the table.")

    @model_validator(mode="after")
    def _sessions_are_remembered(self) -> Self:
        if self.forget_minutes * 60 < self.udp_timeout_seconds:
            raise ValueError("forget_minutes is shorter than udp_timeout_seconds")
        return self

    @model_validator(mode="after")
    def _sums_are_of_whole_flows(self) -> Self:
        if given := [name for name in ("columns", "rename", "fields", "sample") if name in self.model_fields_set]:
            raise ValueError(f"{given[0]} has no effect on sums; the summary supports where")
        return self

    def bounds(self) -> Bounds:
        """Return the bounds of what is remembered."""
        return Bounds(
            lateness_ms=int(self.lateness_seconds * _SECOND_MS),
            session_timeout_ms=int(self.udp_timeout_seconds * _SECOND_MS),
            forget_ms=int(self.forget_minutes * _MINUTE_MS),
            sockets=self.max_sockets,
            open_rows=self.max_open_rows,
        )


class SummarySink(LocalStateSink):
    """Sums of rows, printed and in files; see the module."""

    row_types = (FLOWS.name,)

    def __init__(
        self,
        settings: SummarySettings,
        row_type: RowType = FLOWS,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        del row_type  # there is only one
        self._settings = settings
        self._bounds = settings.bounds()
        self._out = out
        text = settings.format is not FileFormat.PARQUET
        encoding = Encoding(settings.format, FileCompression.NONE if text else FileCompression.ZSTD)
        limits = FileLimits(_FILE_ROWS, _FILE_BYTES, settings.rotate_seconds)
        outlet = FileOutlet(
            settings.directory, SUMMARY_SCHEMA, "summary-p{shard:03}-{sequence:08}", encoding.extension, encoding.write, limits
        )
        spec = ShardsSpec("summary", outlet, self.prepare, settings.flush_on_close, self._close_quiet_minutes)
        super().__init__(spec, settings.remember_days, clock)
        self._printed_at = clock()
        self._news = False

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Count all rows, each once. Raises Retry if the disk fails or another process holds a shard."""
        written = known = 0
        for part in parts:
            with self._shards.writing(part.shard) as store:
                positions, state = Positions(store.database, self._clock), SummaryState(store.database, self._bounds)
                fresh = positions.fresh(part.rows, FLOWS.position)
                if fresh.rows.num_rows:
                    state.add(fold(fresh.rows, self._bounds.session_timeout_ms), self._clock())
                    for due in state.take_due():
                        store.append(due)
                positions.advance(fresh)
            self._news = self._news or fresh.rows.num_rows > 0
            written, known = written + fresh.rows.num_rows, known + fresh.known
        return Outcome(written, known)

    def tick(self) -> None:
        """Close minutes that get no more flows, complete files, and print the table."""
        super().tick()
        if (
            self._settings.print_seconds
            and self._news
            and abs(self._clock() - self._printed_at) >= self._settings.print_seconds
        ):
            self._print()

    def close(self) -> None:
        """Print the table one last time and give up all shards."""
        if self._settings.print_seconds and self._news:
            self._print()
        super().close()

    def prepare(self, database: sqlite3.Connection) -> None:
        """Create the tables of positions and sums."""
        super().prepare(database)
        SummaryState(database, self._bounds).create()

    def _close_quiet_minutes(self, store: ShardStore) -> None:
        state = SummaryState(store.database, self._bounds)
        if state.is_quiet(self._clock()):
            with store.transaction():
                for due in state.take_all():
                    store.append(due)

    def _print(self) -> None:
        self._news, self._printed_at = False, self._clock()
        top = self._settings.top
        seen = self._shards.look(partial(self._seen, top * _TOP_PER_SHARD))
        if not seen:
            return
        clocks = [clock for clock, _ in seen]
        totals = Totals(
            sum(clock.flows for clock in clocks),
            sum(clock.late_flows for clock in clocks),
            max(clock.newest_ms for clock in clocks),
        )
        talkers = _top(pa.concat_tables([talkers for _, talkers in seen]), top)
        out = self._out or sys.stdout
        out.write("\n" + summary_table(totals, talkers, shutil.get_terminal_size(_TERMINAL).columns))
        out.flush()

    def _seen(self, count: int, store: ShardStore) -> tuple[EventClock, pa.Table]:
        state = SummaryState(store.database, self._bounds)
        return state.clock(), state.talkers(count)


def _top(talkers: pa.Table, count: int) -> list[dict[str, int | str]]:
    """Combine the shards' talkers by socket and return the top `count` by bytes."""
    sums = (*TRAFFIC, *TOTALS)
    joined = talkers.group_by(list(SOCKET), use_threads=False).aggregate(
        [("since", "min"), ("last", "max"), *((name, "sum") for name in sums)]
    )
    renamed = joined.rename_columns(
        [name.removesuffix("_sum").removesuffix("_min").removesuffix("_max") for name in joined.column_names]
    )
    # In floating point, so that two sums near the integer limit do not wrap.
    octets = pc.add(*(renamed.column(f"total_bytes_{way}").cast(pa.float64()) for way in ("in", "out")))
    ordered = renamed.append_column("octets", octets).sort_by([("octets", "descending"), ("last", "descending")])
    top: list[dict[str, int | str]] = ordered.slice(0, count).to_pylist()
    return top
