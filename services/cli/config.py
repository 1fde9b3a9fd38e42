"""``blobtide config``: check the settings by building everything from them, or show what is in force."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import click
import yaml

from libs.common.errors import BlobtideError, ConfigError
from libs.common.settings import Settings, load_settings, masked
from libs.common.settings.storage import Environment, account_alias
from services.cli.options import config_option
from services.cli.run import SERVICES


@click.group()
def command() -> None:
    """Check or show the effective settings."""


@command.command()
@config_option
def show(config: Path | None) -> None:
    """Print the effective settings as YAML, secrets masked."""
    click.echo(yaml.safe_dump(masked(load_settings(config)), sort_keys=False, allow_unicode=True), nl=False)


@command.command()
@config_option
@click.option("--connect", is_flag=True, help="Also reach Kafka and every configured container.")
def check(config: Path | None, *, connect: bool) -> None:
    """Build every service and sink from the settings and exit.

    All problems are listed, not only the first. The exit code is 0 when all is well.
    """
    settings = load_settings(config)
    checks = [*_builds(settings), *(_connections(settings) if connect else ())]
    problems = [problem for what, attempt in checks if (problem := _tried(what, attempt)) is not None]
    if problems:
        raise SystemExit(problems[0].exit_code)


Check = tuple[str, Callable[[], object]]


def _tried(what: str, attempt: Callable[[], object]) -> BlobtideError | None:
    try:
        attempt()
    except BlobtideError as error:
        click.echo(f"!!  {what}: {error}", err=True)
        return error
    click.echo(f"ok  {what}")
    return None


def _builds(settings: Settings) -> Iterator[Check]:
    for name, module in SERVICES.items():
        yield name, partial(_build, module, settings)
    for name in settings.sinks:
        yield f"sink {name}", partial(_build_sink, settings, name)
    yield "directories of sinks", partial(_check_directories, settings)


def _build(module: str, settings: Settings) -> object:
    return importlib.import_module(module).build(settings)


def _build_sink(settings: Settings, name: str) -> object:
    from services.sinks.main import build

    return build(settings, name)


def _check_directories(settings: Settings) -> None:
    """Refuse a directory that two sinks keep their state in: each would take what the other wrote for its own."""
    used: dict[Path, str] = {}
    for name, directory in _directories(settings):
        other = used.setdefault(directory.resolve(), name)
        if other != name:
            raise ConfigError(f"sinks.{other} and sinks.{name} have one directory, {directory}: give each its own")


def _directories(settings: Settings) -> Iterator[tuple[str, Path]]:
    from services.sinks.registry import configured_sink

    for name in settings.sinks:
        directory = None
        with suppress(ConfigError):  # said by the check of this sink
            directory = getattr(configured_sink(settings.sinks, name).settings, "directory", None)
        if directory is not None:
            yield name, directory


def _connections(settings: Settings) -> Iterator[Check]:
    from libs.common.kafka.client import check_reachable
    from libs.common.storage.azure import check_container

    yield f"Kafka at {settings.kafka.bootstrap_servers}", partial(check_reachable, settings.kafka)
    for alias, environment in _environments(settings):
        for source in environment.sources:
            attempt = partial(check_container, environment.storage, alias, source.container)
            yield f"container {source.container} of {alias}", attempt


def _environments(settings: Settings) -> Iterator[tuple[str, Environment]]:
    for subscription, inside in settings.subscriptions.items():
        for name, environment in inside.environments.items():
            if environment.enabled:
                yield account_alias(subscription, name), environment
