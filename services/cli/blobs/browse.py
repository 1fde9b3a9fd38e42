"""Find the blobs that the settings cover, in storage, one page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from libs.common.errors import BlobtideError, ConfigError, ServerUnreachable
from libs.common.settings import Settings
from libs.common.settings.storage import Environment, NameLayout
from libs.common.suggestions import did_you_mean
from services.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from libs.common.azure.storage.api import Container, ListedBlob
    from libs.common.messages.labels import Labels
    from services.blob_monitor.sources import Territory

_DATES: Final = ("%Y%m%d", "%Y-%m-%d")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which blobs to find; what is None or empty excludes nothing."""

    subscription: str | None = None
    environment: str | None = None
    service: str | None = None
    day: date | None = None
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A blob and the territory that it is in."""

    territory: Territory
    blob: ListedBlob

    @property
    def id(self) -> str:
        """Its id: account alias, container, name."""
        return f"{self.territory.alias}/{self.territory.container}/{self.blob.name}"

    @property
    def labels(self) -> Labels:
        """What its name says."""
        rule = self.territory.rule_of(self.blob.name)
        return rule.labels(self.blob.name, self.territory.place) if rule else {}


def wanted_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose blobs."""
    options = (
        click.option("--subscription", help="Only this subscription."),
        click.option("--env", "environment", help="Only environments of this name."),
        click.option("--service", help="Only blobs of this selector."),
        click.option("--date", "day", callback=_day, metavar="YYYYMMDD", help="Only blobs of this day, by their name or path."),
        click.option("--prefix", default="", help="Only blobs whose name begins like this."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def territories_of(settings: Settings, wanted: Wanted) -> tuple[Territory, ...]:
    """Return the territories to look at.

    Raises:
        ConfigError: if the settings have nothing of that name; the message says what they have.
    """
    from services.blob_monitor.sources import territories

    found = territories(settings.subscriptions)
    if not found:
        raise ConfigError("no environment under `subscriptions` is enabled: see `blobtide setup-config`")
    for what, name in (
        ("subscription", wanted.subscription),
        ("environment", wanted.environment),
        ("selector", wanted.service),
    ):
        known = {str(getattr(territory, what)) for territory in found} - {""}
        if name is not None and name not in known:
            raise ConfigError(
                f"there is no {what} {name}{did_you_mean(name, known)}; known are {', '.join(sorted(known)) or 'none'}"
            )
    return tuple(
        territory
        for territory in found
        if wanted.subscription in (None, territory.subscription)
        and wanted.environment in (None, territory.environment)
        and wanted.service in (None, territory.selector)
    )


def blobs_of(settings: Settings, territory: Territory, wanted: Wanted) -> Iterator[Found]:
    """Yield the blobs of a territory, in order of name under each listed prefix.

    Raises:
        ConfigError: if the container does not exist, or the settings cannot work.
        ServerUnreachable: if storage does not answer or refuses.
    """
    from libs.common.azure.storage.api import BlobGone, StorageError
    from libs.common.azure.storage.blobs import open_container

    account = _environment(settings, territory).storage
    with closing(open_container(account, territory.alias, territory.container)) as container:
        try:
            yield from _listed(container, territory, wanted)
        except BlobGone as error:
            raise ConfigError(f"{territory.alias}: there is no container {territory.container}") from error
        except StorageError as error:
            raise ServerUnreachable(f"{territory.alias}: {error}") from error


def end_with(command: str, failed: Sequence[BlobtideError]) -> None:
    """Name what could not be listed, and exit with the code of the first error, if there is any."""
    for error in failed:
        say(f"{command}: {error}", err=True)
    if failed:
        raise SystemExit(failed[0].exit_code)


def _environment(settings: Settings, territory: Territory) -> Environment:
    return settings.subscriptions[territory.subscription].environments[territory.environment]


def _listed(container: Container, territory: Territory, wanted: Wanted) -> Iterator[Found]:
    is_flat = territory.layout is NameLayout.FLAT  # the names have no day
    for listed in _prefixes(container, territory, wanted.day):
        prefix = _both(listed, wanted.prefix)
        for blob in container.list_blobs(prefix) if prefix is not None else ():
            is_ours = territory.scope_prefix(blob.name) is not None and territory.stream_of(blob.name) is not None
            if is_ours and not (is_flat and wanted.day not in (None, blob.last_modified.date())):
                yield Found(territory, blob)


def _prefixes(container: Container, territory: Territory, day: date | None) -> Iterator[str]:
    from services.blob_monitor.listing import divided, resource_directories

    if territory.layout is NameLayout.HOURLY and day is not None:
        for directory in resource_directories(container, territory):
            yield f"{directory}{day:y=%Y/m=%m/d=%d/}"
    elif territory.layout is NameLayout.DATED and day is not None:
        yield territory.listed_prefix(f"{territory.prefix}{day:%Y%m%d}")
    elif territory.tail is None:
        yield territory.prefix
    else:
        yield from divided(territory, territory.listed_prefix(territory.prefix), container)


def _both(listed: str, prefix: str) -> str | None:
    """Return the longer of two prefixes; None if no name has both."""
    longer, shorter = (listed, prefix) if len(listed) >= len(prefix) else (prefix, listed)
    return longer if longer.startswith(shorter) else None


def _day(_context: click.Context, _option: click.Parameter, value: str | None) -> date | None:
    for form in _DATES if value is not None else ():
        try:
            return datetime.strptime(value or "", form).date()  # noqa: DTZ007 - a day of the zone of the names
        except ValueError:
            continue
    if value is not None:
        raise click.BadParameter(f"{value!r} is not a day such as 20260501 or 2026-05-01")
    return None
