"""``blobtide opensearch setup``: templates and data streams for all types of rows in one cluster, compared or installed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.terminal import say
from services.sinks.frame.registry import sink_class

if TYPE_CHECKING:
    from services.sinks.kinds.elasticsearch.cluster_setup import ClusterSetup
    from services.sinks.kinds.elasticsearch.differences import Difference
    from services.sinks.kinds.elasticsearch.setup import Absent, Ask

DIFFERENT: Final = 1
_KEPT: Final = "existing indexes keep their mappings; those that begin from now on have the new ones"


@click.group(epilog=examples("blobtide opensearch setup --dry-run", "blobtide opensearch setup search --config blobtide.yaml"))
def command() -> None:
    """Prepare OpenSearch or Elasticsearch for all types of rows."""


@command.command(short_help="Install index templates and data streams; --dry-run shows differences.")
@click.argument("name", required=False)
@click.option("--dry-run", is_flag=True, help="Only show what differs, and write nothing; exit code 1 if anything does.")
@config_option
@click.pass_context
def setup(context: click.Context, name: str | None, config: Path | None, *, dry_run: bool) -> None:
    """Install what the cluster of the sink NAME needs for flows, rollups, application, http, proxy and spans. Safe to repeat.

    NAME is a sink of kind elasticsearch, which says where the cluster is and how to sign in; it may be left out if all these
    sinks are of one cluster. Without any, the cluster is the one on this machine. Each sink of the cluster gets what its
    settings ask for, as by `sink-setup`. Types of rows without a sink get an index template and a data stream, blobtide-TYPE,
    to which a sink may be added later with `data_stream: blobtide-TYPE`. What is there as it should be is left alone.
    """
    settings = load_logged(config, "opensearch")
    sink_class({}, "elasticsearch")  # says so if its library is not installed
    from services.sinks.kinds.elasticsearch.cluster_setup import cluster_setup

    wanted = cluster_setup(settings, name)
    with _connection(wanted) as ask:
        found = list(_shown(wanted.differences(ask) if dry_run else wanted.apply(ask)))
    where = ", ".join(wanted.settings.hosts)
    if not found:
        say(f"{where}: everything is as it should be")
    elif dry_run:
        say(f"{where}: {_counted(found, 'difference')}; nothing was written")
        context.exit(DIFFERENT)
    else:
        say(f"{where}: {_counted(found, 'change')} made")
        if not all(one.is_new for one in found):
            say(_KEPT)


@contextmanager
def _connection(wanted: ClusterSetup) -> Iterator[Ask]:
    from functools import partial

    from libs.common.http.client import HttpClient
    from services.sinks.kinds.elasticsearch.sink import ask

    client = HttpClient(wanted.settings.connection())
    try:
        yield partial(ask, client)
    finally:
        client.close()


def _counted(found: Sequence[Difference], what: str) -> str:
    return f"{len(found)} {what}{'' if len(found) == 1 else 's'}"


def _shown(found: Iterator[Difference | Absent]) -> Iterator[Difference]:
    """Print what differs, and yield it; what the cluster cannot have is only printed, once."""
    from services.sinks.kinds.elasticsearch.setup import Absent

    said: set[str] = set()
    for one in found:
        if isinstance(one, Absent):
            if one.reason not in said:
                say(f"  {one.reason}")
            said.add(one.reason)
            continue
        say(f"{'+' if one.is_new else '~'} {one.resource.title}")
        for line in one.lines:
            say(f"    {line}")
        yield one
