"""``blobtide sink-setup NAME``: prepare a destination once, for example with an index template. Safe to repeat."""

from __future__ import annotations

from pathlib import Path

import click

from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.suggestions import configured_sinks
from services.cli.terminal import say
from services.sinks.frame.contract import Sink
from services.sinks.frame.registry import configured_sink, sink_class


@click.command(epilog=examples("blobtide sink-setup elasticsearch --config blobtide.yaml"))
@click.argument("name", shell_complete=configured_sinks)
@config_option
def command(name: str, config: Path | None) -> None:
    """Install what the sink NAME needs at its destination, such as an index template. Safe to repeat."""
    settings = load_logged(config, "sink-setup")
    # Decided by the class, so that a sink that needs no set-up does not require complete settings.
    needs_none = sink_class(settings.sinks, name).setup is Sink.setup
    done = None if needs_none else configured_sink(settings.sinks, name, settings).sink.setup()
    say(done or f"{name}: needs no set-up")
