"""``blobtide sink-setup NAME``: prepare a destination once, such as by an index template. Safe to repeat."""

from __future__ import annotations

from pathlib import Path

import click

from services.cli.options import config_option, load_logged
from services.sinks.contract import NeedsSetup
from services.sinks.registry import configured_sink


@click.command()
@click.argument("name")
@config_option
def command(name: str, config: Path | None) -> None:
    """Install what the sink NAME needs at its destination."""
    sink = configured_sink(load_logged(config, "sink-setup").sinks, name).sink
    click.echo(sink.setup() if isinstance(sink, NeedsSetup) else f"{name}: needs no set-up")
