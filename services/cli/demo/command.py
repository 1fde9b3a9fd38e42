"""``blobtide demo generate``: write logs to any storage account, growing as in Azure, and the ground truth about them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from libs.common.errors import ConfigError
from services.cli.demo.asked import Asked, LogSort, refuse_unclear_destination
from services.cli.help_text import examples
from services.cli.moments import moment_of
from services.cli.options import config_option

_KINDS: Final = ("vnet", "nsg2", "nsg1", "mixed", "applogs")
_BACK: Final = re.compile(r"-(\d{1,9})([hm])")
_OPTIONS: Final = {
    LogSort.FLOWS: ("nics", "tuples_per_minute", "upgrade_after", "pretty"),
    LogSort.APPLICATIONS: ("pods", "lines_per_minute", "directory"),
}
_MEANT: Final = {LogSort.FLOWS: "requires a --kind of flow log", LogSort.APPLICATIONS: "requires --kind applogs"}


@click.group()
def command() -> None:
    """Generate logs the way Azure and Kubernetes write them."""


@command.command(
    epilog=examples(
        "blobtide demo generate --connection-string-file azurite.txt --hours 3",
        "blobtide demo generate --environment lab.test --follow --nics 5",
        "blobtide demo generate --environment lab.test --start 2026-05-01T12:00 --minutes 90 --truth truth.parquet",
        "blobtide demo generate --kind applogs --directory logs --truth lines.parquet",
    )
)
@config_option
@click.option("--connection-string", help="Destination: connection string of a storage account (or Azurite).")
@click.option(
    "--connection-string-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Destination: file that holds a connection string.",
)
@click.option("--environment", help="Destination: SUBSCRIPTION.ENVIRONMENT from the settings.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Destination of application logs: a directory instead of a storage account.",
)
@click.option("--nics", type=click.IntRange(min=1), default=20, show_default=True, help="Number of network interfaces.")
@click.option(
    "--tuples-per-minute",
    type=click.FloatRange(min=1),
    default=60,
    show_default=True,
    help="Flow tuples per minute and interface.",
)
@click.option(
    "--kind",
    type=click.Choice(_KINDS),
    default="mixed",
    show_default=True,
    help="Kind of flow log: VNet v4, NSG v2 or NSG v1; mixed: all three. applogs: application logs of pods, as gzip blobs.",
)
@click.option("--pods", type=click.IntRange(min=1), default=16, show_default=True, help="Application logs: number of pods.")
@click.option(
    "--lines-per-minute",
    type=click.FloatRange(min=1),
    default=30,
    show_default=True,
    help="Application logs: lines per minute and pod.",
)
@click.option(
    "--start",
    help="First minute: a time such as 2026-05-01T12:00:00Z (UTC if it has no zone), or an age such as -3h or -90m. Default: "
    "such that the logs end at the last full hour.",
)
@click.option(
    "--minutes",
    type=click.IntRange(min=1),
    help="Minutes to generate; with --follow, minutes of history (instead of --start).",
)
@click.option("--hours", type=click.IntRange(min=1), help="The same in hours.  [default: 1; with --follow: the current hour]")
@click.option(
    "--speed",
    type=click.FloatRange(min=0),
    default=0,
    help="Logged seconds per second: 60 writes a minute per second, 0 writes everything at once.  [default: 0]",
)
@click.option("--follow", is_flag=True, help="After reaching the present, continue in real time until Ctrl-C.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="The same seed gives the same bytes.")
@click.option(
    "--upgrade-after",
    type=click.IntRange(min=1),
    help="Minutes after which NSG logs of version 1 become version 2.  [default: never]",
)
@click.option("--pretty", is_flag=True, help="Write indented JSON, as Azure once did.")
@click.option(
    "--truth",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write every tuple or line to this .parquet or .ndjson file, for comparison.",
)
def generate(**options: Any) -> None:
    """Write growing logs to a storage account.

    Run again with the same options, it continues where it stopped and changes nothing already written. Application logs that
    begin at another time are those of other containers, in blobs of their own.
    """
    asked = Asked(**options)
    _refuse_other_options(click.get_current_context(), asked.sort)
    refuse_unclear_destination(asked)
    start, minutes = _span(asked, datetime.now(UTC))
    if asked.sort is LogSort.FLOWS:
        from services.cli.demo.flows import generate_flows

        generate_flows(asked, start, minutes)
    else:
        from services.cli.demo.applogs import generate_applogs

        generate_applogs(asked, start, minutes)


def _refuse_other_options(context: click.Context, sort: LogSort) -> None:
    for other, names in _OPTIONS.items():
        for name in names if other is not sort else ():
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--{name.replace('_', '-')} {_MEANT[other]}.", context)


def _span(asked: Asked, now: datetime) -> tuple[datetime, int | None]:
    """Return the first minute and the number of minutes, within the calendar."""
    try:
        start, minutes = _period(asked, now)
        start + timedelta(minutes=minutes or 0, days=1)  # the last writes happen after the last minute
    except OverflowError:
        raise ConfigError("the period is outside the calendar: check --start, --minutes and --hours") from None
    return start, minutes


def _period(asked: Asked, now: datetime) -> tuple[datetime, int | None]:
    """Return the first minute and the number of minutes (None: no end).

    Following begins on the hour, so that a second run generates the same blobs and continues them.
    """
    if asked.minutes and asked.hours:
        raise ConfigError("give --minutes or --hours, not both")
    if asked.follow and asked.start and (asked.minutes or asked.hours):
        raise ConfigError("--follow has no end: give either --start, or the history as --minutes or --hours, not both")
    minutes = asked.minutes or 60 * (asked.hours or (0 if asked.follow else 1))
    hour = now.replace(minute=0, second=0, microsecond=0)
    if asked.start:
        start = _time(asked.start, now)
    elif asked.follow:
        start = now - timedelta(minutes=minutes)
    else:
        start = hour - timedelta(minutes=minutes)
    if asked.follow:
        return start.replace(minute=0, second=0, microsecond=0), None
    return start.replace(second=0, microsecond=0), minutes


def _time(text: str, now: datetime) -> datetime:
    if back := _BACK.fullmatch(text):
        unit = {"h": "hours", "m": "minutes"}[back[2]]
        return now - timedelta(**{unit: int(back[1])})
    try:
        return moment_of(text)
    except ValueError:
        raise ConfigError(f"--start {text}: give a time such as 2026-05-01T12:00:00Z, or an age such as -3h") from None
