"""The ``clickhouse`` sink: rows as columns of a ClickHouse table, effectively once.

Arrow batches are inserted unchanged, so the sink costs about 0.3 µs of CPU per row. Rows that the table may already contain
(after a start, a takeover, a failure, a reset of offsets) are looked up before they are inserted; a repeated insert of the same
messages has the same token, and the server drops it; duplicates that slip through both are merged with their parts, since the
table is a ReplacingMergeTree by position. ``blobtide sink-setup`` creates the table and later adds new columns. A row that the
server refuses is reported in the outcome; a server that cannot accept rows now delays the sink.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Final

import structlog
from pydantic import Field, StringConstraints

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.http.authorization import authorization
from libs.common.http.client import HttpClient
from libs.common.rows.row_type import RowType
from libs.common.rows.shape import Shape
from services.sinks.frame.contract import Outcome, Part, RejectedRow, Sink
from services.sinks.frame.http import HttpHostsSettings
from services.sinks.frame.kind import Promise
from services.sinks.frame.settings import BatchSettings, SinkSettings
from services.sinks.frame.table import comments_of, identified_shape, names_of
from services.sinks.kinds.clickhouse.client import MOST_ROWS, ClickHouse, text
from services.sinks.kinds.clickhouse.places import RowPlaces
from services.sinks.kinds.clickhouse.presence import Presence
from services.sinks.kinds.clickhouse.table import Layout, TableName, layout
from services.sinks.kinds.clickhouse.writer import TableBatch, TableWriter

log = structlog.get_logger(__name__)

KIND: Final = "clickhouse"
_SETUP: Final = "run `blobtide sink-setup`"

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class ClickHouseBatchSettings(BatchSettings):
    """Larger: each insert makes a part that is merged later."""

    seconds: float = Field(default=5.0, gt=0, le=5, description="Seconds for which one poll collects messages.")
    bytes: int = Field(default=16_777_216, ge=100_000, description="Bytes after which a poll ends early.")


class ClickHouseSettings(SinkSettings, HttpHostsSettings):
    """sinks.clickhouse."""

    has_default_user = True

    batch: ClickHouseBatchSettings = ClickHouseBatchSettings()
    hosts: tuple[str, ...] = Field(
        default=("http://127.0.0.1:8123",),
        min_length=1,
        description="URLs of the HTTP interface, used in rotation: a list, or comma-separated.",
    )
    database: Identifier = Field(default="default", description="Database of the table.")
    table: Identifier | None = Field(default=None, description="Name of the table. Default: the row type.")
    ttl_days: int = Field(
        default=0, ge=0, le=36_500, description="Days after which rows expire, in a table that sink-setup creates. 0: never."
    )
    insert_rows: int = Field(default=100_000, ge=1, le=MOST_ROWS, description="Maximum number of rows per insert.")

    def sign_in(self) -> dict[str, str]:
        """Read the password and return the header that signs in; empty without any. Raises `ConfigError`."""
        password = self.read_password()
        return {} if password is None else authorization(basic=(self.username or "default", password))


class ClickHouseSink(Sink):
    """Rows in a table."""

    def __init__(self, settings: ClickHouseSettings, row_type: RowType) -> None:
        self._settings = settings
        self._row_type = row_type
        self._shape = identified_shape(row_type, settings, KIND)
        self._layout = _layout(self._shape, row_type, settings)
        self._client: ClickHouse | None = None
        self._presence: Presence | None = None
        self._writer: TableWriter | None = None
        self._beat: Callable[[], None] = lambda: None

    @property
    def promise(self) -> Promise:
        """Effectively once."""
        return Promise.EFFECTIVELY_ONCE

    def read_files(self) -> None:
        """Read the password and check the TLS files."""
        self._settings.cluster(KIND)

    def setup(self) -> str:
        """Create the table, or add the columns that it lacks."""
        client, wanted = self._connected(), self._layout
        try:
            if not client.query(f"SELECT 1 AS n FROM system.databases WHERE name = {text(wanted.name.database)}"):  # noqa: S608
                client.execute(wanted.name.create_database)
            existing = self._columns(client)
            missing = wanted.missing(existing) if existing else wanted.columns
            if missing:
                client.execute(wanted.add(missing) if existing else wanted.create)
        except Retry as error:
            raise _unreachable(error) from error
        finally:
            client.close()
        if not existing:
            return f"created the table {wanted.name} with {len(wanted.columns)} columns"
        added = ", ".join(column.name for column in missing)
        return f"added to the table {wanted.name}: {added}" if added else f"the table {wanted.name} has all columns"

    def open(self) -> None:
        """Sign in and check that the table matches."""
        self.close()
        client = self._connected()
        try:
            self._check_table(client)
        except BaseException as error:
            client.close()
            if isinstance(error, Retry):
                raise _unreachable(error) from error
            raise
        name = self._layout.name
        self._client, self._presence = client, Presence(client, name, self._layout.names)
        self._writer = TableWriter(client, name.sql, self._presence, self._settings.insert_rows)
        self._writer.beat = self._beat

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Insert the rows that the table does not have."""
        written, already_there = 0, 0
        rejected: list[RejectedRow] = []
        assert self._writer is not None, "open first"  # noqa: S101
        for number, part in enumerate(parts):
            done = self._writer.write(self._batch(part))
            written += done.written
            already_there += done.already_there
            rejected += (RejectedRow(number, bad.row, bad.code, bad.reason) for bad in done.refused)
        return Outcome(written, already_there, tuple(rejected))

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` after each request."""
        self._beat = beat
        if self._writer is not None:
            self._writer.beat = beat

    def release(self, shards: Collection[int]) -> None:
        """Forget what the table contains of these shards: other processes write them now."""
        if self._presence is not None:
            self._presence.forget(shards)

    def close(self) -> None:
        """Close connections; idempotent."""
        if self._client is not None:
            self._client.close()
        self._client = self._presence = self._writer = None

    def _batch(self, part: Part) -> TableBatch:
        places = RowPlaces.of(part.rows, self._row_type.position)
        return TableBatch(part.shard, places, part.rows.column(self._row_type.time), self._shape.apply(part.rows), part.ends)

    def _connected(self) -> ClickHouse:
        return ClickHouse(HttpClient(self._settings.cluster(KIND)))

    def _columns(self, client: ClickHouse) -> dict[str, str]:
        """Return the types of the table's columns by name; empty if there is no table that we may see."""
        where = f"database = {text(self._layout.name.database)} AND table = {text(self._layout.name.table)}"
        return {row["name"]: row["type"] for row in client.query(f"SELECT name, type FROM system.columns WHERE {where}")}  # noqa: S608

    def _check_table(self, client: ClickHouse) -> None:
        existing = self._columns(client)
        if not existing:
            raise ConfigError(f"clickhouse: there is no table {self._layout.name} that this user may see: {_SETUP}")
        missing = self._layout.missing(existing)
        if missing:
            names = ", ".join(column.name for column in missing)
            raise ConfigError(f"clickhouse: the table {self._layout.name} has no column {names}: {_SETUP}")
        self._warn_of_missing_nets(client)

    def _warn_of_missing_nets(self, client: ClickHouse) -> None:
        name = self._layout.name
        where = f"database = {text(name.database)} AND name = {text(name.table)}"
        for row in client.query(f"SELECT engine, engine_full FROM system.tables WHERE {where}"):  # noqa: S608
            engine = row["engine"]
            if not engine.endswith("MergeTree"):  # such as Distributed, whose underlying tables we cannot see
                return
            if "Replacing" not in engine:
                log.warning("the table's engine keeps duplicate rows; use a ReplacingMergeTree", table=str(name), engine=engine)
            if (
                not engine.startswith(("Replicated", "Shared"))
                and "non_replicated_deduplication_window" not in row["engine_full"]
            ):
                log.warning(
                    "the table does not recognise repeated inserts; set its non_replicated_deduplication_window",
                    table=str(name),
                )


def _layout(shape: Shape, row_type: RowType, settings: ClickHouseSettings) -> Layout:
    schema = shape.apply(settings.rows_schema(row_type).empty_table()).schema
    name = TableName(settings.database, settings.table or row_type.name)
    return layout(name, schema, names_of(row_type, shape), comments_of(row_type, shape), settings.ttl_days)


def _unreachable(error: Retry) -> ServerUnreachable:
    return ServerUnreachable(f"{error}; is ClickHouse running, and are the sink's hosts correct?")
