"""``blobtide config``: check the settings by building everything from them, or show the effective settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import yaml

from libs.common.settings import Settings, load_unread, masked, masked_options, settings_file
from services.cli.config.checks import CheckResult, builds, connections, tried
from services.cli.help_text import examples
from services.cli.options import config_option, load, load_logged
from services.cli.terminal import say, show


@click.group(epilog=examples("blobtide config show", "blobtide config check --connect --config blobtide.yaml"))
def command() -> None:
    """Check or show the effective settings: the file, overridden by environment variables."""


@command.command("show")
@config_option
def show_settings(config: Path | None) -> None:
    """Print the effective settings as YAML, defaults included, secrets masked. References to key vaults are not followed."""
    settings = load_unread(config)
    shown = masked(settings) | {"sinks": {name: _sink(settings, name) for name in settings.sinks}}
    show(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))


def _sink(settings: Settings, name: str) -> dict[str, Any]:
    """Return the effective options of a sink. Raises `ConfigError`."""
    from services.sinks.frame.registry import configured_sink

    kind, own = settings.sinks[name].get("kind", name), configured_sink(settings.sinks, name).settings
    shown = masked_options(own)
    # What is read at once depends on other options as well.
    return {"kind": str(kind), **shown, "batch": {**shown["batch"], "bytes": own.poll_bytes}}


@command.command()
@config_option
@click.option(
    "--connect", is_flag=True, help="Also contact key vaults, Kafka, its topics, every container and every destination."
)
def check(config: Path | None, *, connect: bool) -> None:
    """Build every service, client and sink from the settings, read every secret, and exit.

    All problems are listed, not just the first. The exit code is 0 if there are none. With --connect, sinks are opened the way
    their services open them, so run it on the same machine and as the same user as the services. Without it, nothing is
    contacted: secrets in key vaults (kv://...) are not read, and what needs them is not built.
    """
    settings = load_logged(config, "config", load if connect else load_unread)
    say(f"ok  settings: {settings_file(config) or 'no file, only defaults and environment variables'}")
    verdicts = []
    for verdict in tried([*builds(settings), *(connections(settings) if connect else ())]):
        _say(verdict)
        verdicts.append(verdict)
    if errors := [verdict.error for verdict in verdicts if verdict.error is not None]:
        raise SystemExit(errors[0].exit_code)


def _say(verdict: CheckResult) -> None:
    if verdict.error is not None:
        say(f"!!  {verdict.what}: {verdict.error if verdict.is_new else 'same reason as above'}", err=True)
    else:
        say(f"ok  {verdict.what}{verdict.remark and f': {verdict.remark}'}")
