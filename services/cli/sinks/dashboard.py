"""``blobtide sink-dashboard NAME``: a dashboard for a destination's web interface, imported or as a file. Safe to repeat."""

from __future__ import annotations

from pathlib import Path

import click

from libs.common.errors import ConfigError
from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.suggestions import configured_sinks
from services.cli.terminal import say
from services.sinks.frame.registry import configured_sink


@click.command(
    epilog=examples(
        "blobtide sink-dashboard search --config blobtide.yaml",
        "blobtide sink-dashboard search --output flows.ndjson",
    )
)
@click.argument("name", shell_complete=configured_sinks)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the dashboard to this file, to be imported by hand, and connect to nothing.",
)
@config_option
def command(name: str, output: Path | None, config: Path | None) -> None:
    """Install a dashboard for the rows of the sink NAME, in place of an earlier one.

    For Elasticsearch and OpenSearch, it is imported into Kibana or OpenSearch Dashboards, whose address is the sink's
    `dashboards_url`. Its panels use the indexes and fields that the sink's settings lead to.
    """
    settings = load_logged(config, "sink-dashboard")
    sink = configured_sink(settings.sinks, name, settings).sink
    try:
        content = sink.dashboard()
    except ConfigError as error:  # its text begins with the name of the option
        raise ConfigError(f"sinks.{name}.{error}") from error
    if content is None:
        raise ConfigError(f"{name}: there are no dashboards for sinks of this kind")
    if output is None:
        say(sink.install_dashboard() or f"{name}: nothing was installed")
    else:
        _write(output, content)
        say(f"dashboard written to {output}")


def _write(output: Path, content: bytes) -> None:
    try:
        output.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"--output: cannot write {output}: {error.strerror}") from error
