"""``blobtide demo generate``: write flow logs to any storage account, growing as in Azure, and the ground truth about them."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import click
from pydantic import SecretStr

from libs.common.errors import ConfigError, ServerUnreachable
from libs.common.process.service import Stop
from libs.common.settings import load_settings
from libs.common.settings.storage import StorageAccount
from services.cli.help_text import examples
from services.cli.moments import moment_of
from services.cli.options import config_option
from services.cli.terminal import say

if TYPE_CHECKING:
    from libs.demo.commits import MinuteCommit
    from libs.demo.player import Played
    from libs.demo.spec import EstateSpec, LogKind

_ALIAS: Final = "demo.local"
_KINDS: Final = ("vnet", "nsg2", "nsg1", "mixed")
_BACK: Final = re.compile(r"-(\d{1,9})([hm])")
_FIRST_CONTACT_SECONDS: Final = 5.0
_OUTAGE_SECONDS: Final = 120.0
_ADVICE: Final = "check that storage (or Azurite) is running, and the endpoint of the connection string or environment"
_SHOW_EVERY_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options of the command line."""

    config: Path | None
    connection_string: str | None
    connection_string_file: Path | None
    environment: str | None
    nics: int
    tuples_per_minute: float
    kind: str
    start: str | None
    minutes: int | None
    hours: int | None
    speed: float
    follow: bool
    seed: int
    upgrade_after: int | None
    pretty: bool
    truth: Path | None


@click.group()
def command() -> None:
    """Generate flow logs the way Azure writes them."""


@command.command(
    epilog=examples(
        "blobtide demo generate --connection-string-file azurite.txt --hours 3",
        "blobtide demo generate --environment lab.test --follow --nics 5",
        "blobtide demo generate --environment lab.test --start 2026-05-01T12:00 --minutes 90 --truth truth.parquet",
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
    help="Kind of flow log: VNet v4, NSG v2 or NSG v1; mixed: all three.",
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
    help="Also write every tuple to this .parquet or .ndjson file, for comparison.",
)
def generate(**options: Any) -> None:
    """Write growing flow logs to a storage account.

    Run again with the same options, it continues where it stopped and changes nothing already written.
    """
    asked = _Asked(**options)
    account, alias = _account(asked)
    _play(asked, _spec(asked, alias, datetime.now(UTC)), account)


def _account(asked: _Asked) -> tuple[StorageAccount, str]:
    """Return the destination, and the alias that prefixes blob ids."""
    ways = (asked.connection_string, asked.connection_string_file, asked.environment)
    if sum(way is not None for way in ways) != 1:
        raise ConfigError("no destination: give exactly one of --connection-string, --connection-string-file, --environment")
    if asked.environment is None:
        secret = SecretStr(asked.connection_string) if asked.connection_string is not None else None
        return StorageAccount(connection_string=secret, connection_string_file=asked.connection_string_file), _ALIAS
    subscription, _, name = asked.environment.partition(".")
    subscriptions = load_settings(asked.config).subscriptions
    try:
        return subscriptions[subscription].environments[name].storage, asked.environment
    except KeyError:
        known = sorted(f"{outer}.{inner}" for outer, inside in subscriptions.items() for inner in inside.environments)
        raise ConfigError(
            f"unknown --environment {asked.environment}; environments in the settings: {', '.join(known) or 'none'}"
        ) from None


def _spec(asked: _Asked, alias: str, now: datetime) -> EstateSpec:
    from libs.demo.spec import EstateSpec, Style

    try:
        start, minutes = _period(asked, now)
        start + timedelta(minutes=minutes or 0, days=1)  # the last writes happen after the last minute
    except OverflowError:
        raise ConfigError("the period is outside the calendar: check --start, --minutes and --hours") from None
    return EstateSpec(
        seed=asked.seed,
        nics=asked.nics,
        tuples_per_minute=asked.tuples_per_minute,
        kinds=_kinds(asked.kind),
        start=start,
        minutes=minutes,
        upgrade_after=asked.upgrade_after,
        style=Style.PRETTY if asked.pretty else Style.COMPACT,
        account=alias,
    )


def _kinds(name: str) -> tuple[LogKind, ...]:
    from libs.demo.spec import LogKind

    return tuple(LogKind) if name == "mixed" else (LogKind(name),)


def _period(asked: _Asked, now: datetime) -> tuple[datetime, int | None]:
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


def _play(asked: _Asked, spec: EstateSpec, account: StorageAccount) -> None:
    from libs.common.azure.storage.retry import RetryPolicy
    from libs.common.azure.storage.writer import BlobWriter
    from libs.demo.estate import Estate
    from libs.demo.player import PlaybackPace, Player
    from libs.demo.truth_file import TruthFile

    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(_stop_on_signals())
        file = stack.enter_context(TruthFile(asked.truth)) if asked.truth else None
        _create_containers(spec, account)
        writer = BlobWriter(account, spec.account, RetryPolicy(deadline=_OUTAGE_SECONDS))
        stack.callback(writer.close)
        progress = _Progress(sys.stderr, spec)
        stack.callback(progress.end)

        def on_commit(commit: MinuteCommit, played: Played) -> None:
            if file is not None:
                file.add(commit.rows)
            progress.show(commit, played)

        pace = PlaybackPace(asked.speed, never_ahead_of_clock=asked.follow)
        played = Player(writer, pace, on_commit).play(Estate(spec).commits(), stop)
    there = f", {played.already_there:,} of them already written" if played.already_there else ""
    say(f"{played.commits:,} commits{there}: {played.tuples:,} tuples, {played.bytes / 1e6:,.1f} MB")


def _create_containers(spec: EstateSpec, account: StorageAccount) -> None:
    """Create the containers; fail fast and clearly if storage is unreachable."""
    from libs.common.azure.storage.api import StorageUnavailable
    from libs.common.azure.storage.retry import RetryPolicy
    from libs.common.azure.storage.writer import BlobWriter
    from libs.demo.inventory import container_of

    writer = BlobWriter(account, spec.account, RetryPolicy(deadline=_FIRST_CONTACT_SECONDS))
    try:
        for container in sorted({container_of(kind) for kind in spec.kinds}):
            writer.create_container(container)
    except StorageUnavailable as error:
        raise ServerUnreachable(f"{error}; {_ADVICE}") from error
    finally:
        writer.close()


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[Stop]:
    stop = Stop()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Progress:
    """A progress line, overwritten in place, on a terminal only."""

    def __init__(self, stream: TextIO, spec: EstateSpec) -> None:
        self._stream = stream if stream.isatty() else None
        self._total = f" of {spec.minutes:,}" if spec.minutes else ""
        self._first = spec.first_minute
        self._shown_at = 0.0

    def show(self, commit: MinuteCommit, played: Played) -> None:
        """Show progress, a few times per second."""
        now = time.monotonic()
        if self._stream is None or now - self._shown_at < _SHOW_EVERY_SECONDS:
            return
        self._shown_at = now
        minute = int(commit.due.timestamp()) // 60 - self._first
        amount = f"{played.commits:,} commits  {played.tuples:,} tuples  {played.bytes / 1e6:,.1f} MB"
        self._stream.write(f"\r\x1b[K{commit.due:%Y-%m-%d %H:%M}  minute {minute:,}{self._total}  {amount}")
        self._stream.flush()

    def end(self) -> None:
        """End the progress line."""
        if self._stream is not None and self._shown_at:
            self._stream.write("\n")
