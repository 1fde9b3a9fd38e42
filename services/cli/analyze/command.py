"""``blobtide analyze-logs``: what the rows of logs in Kafka have in common, summed up by service."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from libs.common.errors import CodecError, ConfigError
from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.pretty import ProgressLine
from services.cli.since import milliseconds_of
from services.cli.terminal import say

if TYPE_CHECKING:
    import pyarrow as pa

    from libs.common.kafka.readers.follow import Follower
    from libs.common.kafka.records import Inbound
    from libs.common.rows.row_type import RowType
    from libs.common.settings import Settings
    from services.cli.analyze.analysis import LogSums

_TYPES: Final = ("application", "http", "proxy")
_LAST: Final = 100_000
_MOST_LAST: Final = 10_000_000
_ROWS_OF_MESSAGE: Final = 1_000  # a guess, for the first attempt to find the newest rows
_WIDER: Final = 8
_FOREVER: Final = 2**63 - 1

Take = Callable[["Inbound", "RowType", "pa.Table"], None]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which rows: of these types, this service and environment, and from one time to another in milliseconds since 1970."""

    types: tuple[str, ...]
    service: str | None
    environment: str | None
    since: int | None
    until: int


@click.command(
    "analyze-logs",
    epilog=examples(
        "blobtide analyze-logs --since 1h",
        "blobtide analyze-logs --service api --since 2026-05-01T12:00:00Z --until 2026-05-01T13:00:00Z",
        "blobtide analyze-logs --rows http --rows proxy --last 1000000 --json | jq .requests",
    ),
)
@click.option("--rows", "types", type=click.Choice(_TYPES), multiple=True, help="Only rows of this type.  [default: all]")
@click.option("--since", help="Rows from this time on: an age (10m, 2h, 1d), RFC 3339, or 0 for the beginning.")
@click.option("--until", help="Rows before this time.  [default: all there are]")
@click.option(
    "-n",
    "--last",
    type=click.IntRange(1, _MOST_LAST),
    help=f"Without --since: so many of the newest rows.  [default: {_LAST}]",
)
@click.option("--service", help="Only rows of this service.")
@click.option("--environment", "--env", "environment", help="Only rows of this environment.")
@click.option(
    "--top", type=click.IntRange(0, 1_000), default=10, show_default=True, help="So many of the most frequent errors."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@config_option
def command(config: Path | None, last: int | None, top: int, *, as_json: bool, **options: Any) -> None:
    """Sum up the rows of application, HTTP and proxy logs in Kafka, by service.

    Shows rows over time, levels, status codes, how long requests took (percentiles to two percent), and the most frequent
    errors: application rows of level error and above, and requests with a status of 500 and above. Numbers and ids in the
    texts of errors are shown as #, so that errors that differ only in these are one. Times are those of the rows. Nothing is
    committed.
    """
    from services.cli.analyze.analysis import LogSums

    settings = load_logged(config, "analyze-logs")
    wanted = _wanted(options)
    if wanted.since is not None and last is not None:
        raise ConfigError("give --last or --since, not both")
    sums = LogSums()
    if wanted.since is not None:
        _sum_since(settings, wanted, sums)
    else:
        _sum_newest(settings, wanted, last or _LAST, sums)
    if as_json:
        say(json.dumps(sums.values(top), ensure_ascii=False))
        return
    from services.cli.analyze.report import show_report

    show_report(sums, top)


def _wanted(options: Mapping[str, Any]) -> _Wanted:
    since, until = (
        None if options[name] is None else milliseconds_of(f"--{name}", options[name]) for name in ("since", "until")
    )
    if since is not None and until is not None and until <= since:
        raise ConfigError("--until must be later than --since")
    types = options["types"] or _TYPES
    return _Wanted(tuple(types), options["service"], options["environment"], since, _FOREVER if until is None else until)


def _sum_since(settings: Settings, wanted: _Wanted, sums: LogSums) -> None:
    from libs.common.kafka.readers.follow import Since

    def take(_record: Inbound, row_type: RowType, table: pa.Table) -> None:
        sums.add(row_type, table)

    # A row is written after the time it states.
    with closing(_follower(settings, wanted, Since(wanted.since or 0))) as follower:
        _read(settings, wanted, follower, take)


def _sum_newest(settings: Settings, wanted: _Wanted, most: int, sums: LogSums) -> None:
    """Read the newest messages; more of them while they have too few rows."""
    from libs.common.kafka.readers.follow import Newest
    from services.cli.analyze.newest import NewestRows

    messages = -(-most // _ROWS_OF_MESSAGE)
    while True:
        newest = NewestRows(most, messages)

        def take(record: Inbound, row_type: RowType, table: pa.Table, newest: NewestRows = newest) -> None:
            newest.add(record.timestamp_ms, row_type, table)

        with closing(_follower(settings, wanted, Newest(messages))) as follower:
            _read(settings, wanted, follower, take)
        if newest.is_certain:
            break
        messages *= _WIDER
    for row_type, table in newest.tables():
        sums.add(row_type, table)


def _follower(settings: Settings, wanted: _Wanted, start: Any) -> Follower:
    from libs.common.kafka.readers.follow import Follower

    names = settings.topics.model_dump()
    return Follower(settings.kafka, tuple(str(names[name]) for name in wanted.types), start)


def _read(settings: Settings, wanted: _Wanted, follower: Follower, take: Take) -> None:
    """Pass on the wanted rows of each message, also if there are none; a message that is no batch is named, and has none."""
    from libs.common.rows.reading import batch_reader
    from libs.common.rows.types import row_type

    names = settings.topics.model_dump()
    readers = {names[name]: (row_type(name), batch_reader(row_type(name))) for name in wanted.types}
    progress, rows = ProgressLine(None), 0
    follower.open()
    for messages, record in enumerate(follower.unordered(), start=1):
        kind, read = readers[record.topic]
        try:
            table = _chosen(read(record), wanted)
        except CodecError as error:
            progress.clear()
            say(f"analyze-logs: {record.topic}/{record.partition}, offset {record.offset}: {error}", err=True)
            table = kind.schema.empty_table()
        rows += table.num_rows
        take(record, kind, table)
        progress.show(messages, lambda rows=rows: f"{rows:,} rows")  # type: ignore[misc]
    progress.clear()


def _chosen(table: pa.Table, wanted: _Wanted) -> pa.Table:
    """Return the wanted rows, and of them what is counted."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from services.cli.analyze.measures import slim

    for name, value in (("service", wanted.service), ("environment", wanted.environment)):
        if value is not None:
            table = table.filter(pc.equal(table[name], value))
    for moment, compare in ((wanted.since, pc.greater_equal), (wanted.until, pc.less)):
        if moment is not None and moment != _FOREVER:
            limit = pa.scalar(datetime.fromtimestamp(moment / 1000, UTC), pa.timestamp("ns", tz="UTC"))
            table = table.filter(compare(table["time"], limit))
    return slim(table)
