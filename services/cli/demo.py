"""``blobtide demo generate``: flow logs in any storage account, growing as Azure lets them grow, and the truth about them."""

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
    from libs.demo.spec import EstateSpec, Kind

_ALIAS: Final = "demo.local"
_KINDS: Final = ("vnet", "nsg2", "nsg1", "mixed")
_BACK: Final = re.compile(r"-(\d{1,9})([hm])")
_FIRST_CONTACT_SECONDS: Final = 5.0
_OUTAGE_SECONDS: Final = 120.0
_ADVICE: Final = "check that it is running (Azurite too), and the endpoint of the connection string or of the environment"
_SHOW_EVERY_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line says."""

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
    """Generate flow logs as Azure writes them."""


@command.command(
    epilog=examples(
        "blobtide demo generate --connection-string-file azurite.txt --hours 3",
        "blobtide demo generate --environment lab.test --follow --nics 5",
        "blobtide demo generate --environment lab.test --start 2026-05-01T12:00 --minutes 90 --truth truth.parquet",
    )
)
@config_option
@click.option("--connection-string", help="Where to: a storage account's (or Azurite's) connection string.")
@click.option(
    "--connection-string-file", type=click.Path(path_type=Path, dir_okay=False), help="Where to: a file that holds one."
)
@click.option("--environment", help="Where to: SUBSCRIPTION.ENVIRONMENT of the settings.")
@click.option("--nics", type=click.IntRange(min=1), default=20, show_default=True, help="How many network interfaces.")
@click.option(
    "--tuples-per-minute",
    type=click.FloatRange(min=1),
    default=60,
    show_default=True,
    help="Flow tuples a minute of one interface.",
)
@click.option(
    "--kind",
    type=click.Choice(_KINDS),
    default="mixed",
    show_default=True,
    help="Kind of flow log: VNet v4, NSG v2 or v1; mixed: all three.",
)
@click.option(
    "--start",
    help="First minute: 2026-05-01T12:00:00Z (UTC if no zone is given), or -3h, -90m: so long ago. Default: so that all has "
    "just happened.",
)
@click.option(
    "--minutes",
    type=click.IntRange(min=1),
    help="How much to generate; with --follow, instead of --start: how much of the past.",
)
@click.option("--hours", type=click.IntRange(min=1), help="The same in hours.  [default: 1; with --follow: the hour that runs]")
@click.option(
    "--speed",
    type=click.FloatRange(min=0),
    default=0,
    help="Logged seconds a second; 60: a minute in a second. 0: at once.  [default: 0]",
)
@click.option("--follow", is_flag=True, help="Once the present is reached, go on in real time until Ctrl-C.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same bytes.")
@click.option(
    "--upgrade-after",
    type=click.IntRange(min=1),
    help="Minutes after which NSG logs of version 1 become version 2.  [default: never]",
)
@click.option("--pretty", is_flag=True, help="Indented JSON, as Azure wrote it years ago.")
@click.option(
    "--truth",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write every tuple to this .parquet or .ndjson, to compare with.",
)
def generate(**options: Any) -> None:
    """Write growing flow logs to a storage account.

    Done again with the same options, it goes on where it was stopped and changes nothing that is there.
    """
    asked = _Asked(**options)
    account, alias = _account(asked)
    _play(asked, _spec(asked, alias, datetime.now(UTC)), account)


def _account(asked: _Asked) -> tuple[StorageAccount, str]:
    """Return where to write and the alias under which blobs are named."""
    ways = (asked.connection_string, asked.connection_string_file, asked.environment)
    if sum(way is not None for way in ways) != 1:
        raise ConfigError("say where to write: give one of --connection-string, --connection-string-file, --environment")
    if asked.environment is None:
        secret = SecretStr(asked.connection_string) if asked.connection_string is not None else None
        return StorageAccount(connection_string=secret, connection_string_file=asked.connection_string_file), _ALIAS
    subscription, _, name = asked.environment.partition(".")
    subscriptions = load_settings(asked.config).subscriptions
    try:
        return subscriptions[subscription].environments[name].storage, asked.environment
    except KeyError:
        known = sorted(f"{outer}.{inner}" for outer, inside in subscriptions.items() for inner in inside.environments)
        raise ConfigError(f"--environment {asked.environment}: the settings know {', '.join(known) or 'none'}") from None


def _spec(asked: _Asked, alias: str, now: datetime) -> EstateSpec:
    from libs.demo.spec import EstateSpec, Style

    try:
        start, minutes = _period(asked, now)
        start + timedelta(minutes=minutes or 0, days=1)  # the last writes come after the last minute
    except OverflowError:
        raise ConfigError("no calendar has all these minutes: check --start, --minutes and --hours") from None
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


def _kinds(name: str) -> tuple[Kind, ...]:
    from libs.demo.spec import Kind

    return tuple(Kind) if name == "mixed" else (Kind(name),)


def _period(asked: _Asked, now: datetime) -> tuple[datetime, int | None]:
    """Return the first minute, and how many there are (None: without end).

    Following begins at a full hour: a second run then makes the same blobs and goes on with them.
    """
    if asked.minutes and asked.hours:
        raise ConfigError("give --minutes or --hours, not both")
    if asked.follow and asked.start and (asked.minutes or asked.hours):
        raise ConfigError("with --follow give --start or how much of the past (--minutes, --hours), not both: it has no end")
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
        raise ConfigError(f"--start {text}: write it like 2026-05-01T12:00:00Z, or -3h") from None


def _play(asked: _Asked, spec: EstateSpec, account: StorageAccount) -> None:
    from libs.common.azure.storage.retry import RetryPolicy
    from libs.common.azure.storage.writer import BlobWriter
    from libs.demo.estate import Estate
    from libs.demo.player import Pace, Player
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

        pace = Pace(asked.speed, never_ahead_of_clock=asked.follow)
        played = Player(writer, pace, on_commit).play(Estate(spec).commits(), stop)
    there = f", {played.already_there:,} of them already there" if played.already_there else ""
    say(f"{played.commits:,} commits{there}: {played.tuples:,} tuples, {played.bytes / 1e6:,.1f} MB")


def _create_containers(spec: EstateSpec, account: StorageAccount) -> None:
    """Create the containers; fail soon and clearly where storage is not to be reached."""
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
    """One line that is written over, on a terminal only."""

    def __init__(self, stream: TextIO, spec: EstateSpec) -> None:
        self._stream = stream if stream.isatty() else None
        self._total = f" of {spec.minutes:,}" if spec.minutes else ""
        self._first = spec.first_minute
        self._shown_at = 0.0

    def show(self, commit: MinuteCommit, played: Played) -> None:
        """Say how far it has come, a few times a second."""
        now = time.monotonic()
        if self._stream is None or now - self._shown_at < _SHOW_EVERY_SECONDS:
            return
        self._shown_at = now
        minute = int(commit.due.timestamp()) // 60 - self._first
        amount = f"{played.commits:,} commits  {played.tuples:,} tuples  {played.bytes / 1e6:,.1f} MB"
        self._stream.write(f"\r\x1b[K{commit.due:%Y-%m-%d %H:%M}  minute {minute:,}{self._total}  {amount}")
        self._stream.flush()

    def end(self) -> None:
        """Leave the line alone from now on."""
        if self._stream is not None and self._shown_at:
            self._stream.write("\n")
