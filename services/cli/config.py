"""``blobtide config``: check the settings by building everything from them, or show what is in force."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from libs.common.errors import BlobtideError, ConfigError
from libs.common.settings import Settings, load_settings, masked
from libs.common.settings.storage import Environment, account_alias
from services.cli.options import config_option, load_logged
from services.cli.run import SERVICES

if TYPE_CHECKING:
    from services.sinks.contract import Sink
    from services.sinks.registry import ConfiguredSink


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
@click.option("--connect", is_flag=True, help="Also look at Kafka, its topics, every container and every destination.")
def check(config: Path | None, *, connect: bool) -> None:
    """Build every service and sink from the settings and exit.

    All problems are listed, not only the first. The exit code is 0 when all is well. With --connect, sinks are opened as their
    services open them: run it as the user and on the machine that the services run as and on.
    """
    settings = load_logged(config, "config")
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
    for sink in _sinks(settings):
        directory = getattr(sink.settings, "directory", None)
        if directory is not None and (other := used.setdefault(directory.resolve(), sink.name)) != sink.name:
            raise ConfigError(f"sinks.{other} and sinks.{sink.name} have one directory, {directory}: give each its own")


def _sinks(settings: Settings) -> Iterator[ConfiguredSink]:
    from services.sinks.registry import configured_sink

    for name in settings.sinks:
        with suppress(ConfigError):  # said by the check of this sink
            yield configured_sink(settings.sinks, name)


def _connections(settings: Settings) -> Iterator[Check]:
    from libs.common.kafka.admin import check_topics, load_topic_specs
    from libs.common.storage.azure import check_container

    kafka = partial(check_topics, settings.kafka, settings.topics, load_topic_specs())
    yield f"Kafka at {settings.kafka.bootstrap_servers} and its topics", kafka
    for alias, environment in _environments(settings):
        for source in environment.sources:
            attempt = partial(check_container, environment.storage, alias, source.container)
            yield f"container {source.container} of {alias}", attempt
    for sink in _sinks(settings):
        yield f"destination of sink {sink.name}", partial(_open_and_close, sink.sink)


def _open_and_close(sink: Sink) -> None:
    """Open a sink as its service does at the start: that is when it connects, signs in and looks for what it needs."""
    try:
        sink.open()
    finally:
        sink.close()


def _environments(settings: Settings) -> Iterator[tuple[str, Environment]]:
    for subscription, inside in settings.subscriptions.items():
        for name, environment in inside.environments.items():
            if environment.enabled:
                yield account_alias(subscription, name), environment
