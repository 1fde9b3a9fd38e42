"""``blobtide sink-maintain NAME``: what a destination needs from time to time, such as the compaction of small files."""

from __future__ import annotations

from pathlib import Path

import click

from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.suggestions import configured_sinks
from services.cli.terminal import say
from services.sinks.frame.contract import Sink
from services.sinks.frame.registry import configured_sink, sink_class


@click.command(epilog=examples("blobtide sink-maintain delta --config blobtide.yaml"))
@click.argument("name", shell_complete=configured_sinks)
@config_option
def command(name: str, config: Path | None) -> None:
    """Do what the destination of the sink NAME needs from time to time, such as joining small files.

    Run it daily where the page of the destination says so. Sinks may write meanwhile.
    """
    settings = load_logged(config, "sink-maintain")
    needs_none = sink_class(settings.sinks, name).maintain is Sink.maintain
    done = None if needs_none else configured_sink(settings.sinks, name, settings).sink.maintain()
    say(done or f"{name}: needs no maintenance")
