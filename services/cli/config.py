"""``blobtide config``: check the settings by building everything from them, or show what is in force."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import click
import yaml

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
    """Build every service and sink from the settings and exit; 0 when all is well."""
    settings = load_settings(config)
    for line in _build_all(settings):
        click.echo(line)
    if connect:
        for line in _connect_all(settings):
            click.echo(line)


def _build_all(settings: Settings) -> Iterator[str]:
    from services.sinks.main import build as build_sink

    for name, module in SERVICES.items():
        importlib.import_module(module).build(settings)
        yield f"ok  {name}"
    for name in settings.sinks:
        build_sink(settings, name)
        yield f"ok  sink {name}"
    if not settings.subscriptions:
        yield "--  no subscriptions are configured: the monitor will find nothing"


def _connect_all(settings: Settings) -> Iterator[str]:
    from libs.common.kafka.client import check_reachable
    from libs.common.storage.azure import check_container

    check_reachable(settings.kafka)
    yield f"ok  Kafka at {settings.kafka.bootstrap_servers}"
    for alias, environment in _environments(settings):
        for source in environment.sources:
            check_container(environment.storage, alias, source.container)
            yield f"ok  container {source.container} of {alias}"


def _environments(settings: Settings) -> Iterator[tuple[str, Environment]]:
    for subscription, inside in settings.subscriptions.items():
        for name, environment in inside.environments.items():
            if environment.enabled:
                yield account_alias(subscription, name), environment
