"""``blobtide config``: check the settings by building everything from them, or show what is in force."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from libs.common.settings import load_settings, masked, settings_file
from services.cli.checks import Verdict, builds, connections, tried
from services.cli.options import config_option, load_logged


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
    """Build every service, client and sink from the settings, read every secret, and exit.

    All problems are listed, not only the first. The exit code is 0 when all is well. With --connect, sinks are opened as their
    services open them: run it as the user and on the machine that the services run as and on.
    """
    settings = load_logged(config, "config")
    click.echo(f"ok  settings: {settings_file(config) or 'no file, only defaults and variables'}")
    verdicts = []
    for verdict in tried([*builds(settings), *(connections(settings) if connect else ())]):
        _say(verdict)
        verdicts.append(verdict)
    if errors := [verdict.error for verdict in verdicts if verdict.error is not None]:
        raise SystemExit(errors[0].exit_code)


def _say(verdict: Verdict) -> None:
    if verdict.error is not None:
        click.echo(f"!!  {verdict.what}: {verdict.error if verdict.is_new else 'for the reason above'}", err=True)
    else:
        click.echo(f"ok  {verdict.what}{verdict.remark and f': {verdict.remark}'}")
