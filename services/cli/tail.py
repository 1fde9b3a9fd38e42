"""``blobtide tail``: look into topics of the pipeline, without a consumer group, decoded into readable lines or JSON."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from libs.common.errors import ConfigError
from libs.common.flows.line_text import FlowLines
from libs.common.kafka.follow import Follower, Newest, Since
from libs.common.kafka.records import Inbound
from libs.common.settings import load_settings
from libs.common.settings.kafka import TopicSettings
from services.cli.options import config_option
from services.cli.tail_render import Output, render

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DEFAULT_COUNT: Final = 10


@click.command(short_help="Follow topics of the pipeline.")
@click.argument("topics", nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="Go on with what arrives, until Ctrl-C.")
@click.option("-n", "--tail", "count", type=click.IntRange(min=0), help=f"Begin with the newest. [default: {_DEFAULT_COUNT}]")
@click.option("--since", help="Begin at a time instead: 10m, 2h, 1d ago, or RFC 3339. `0` is the beginning.")
@click.option(
    "--format",
    "output",
    type=click.Choice([kind.value for kind in Output]),
    default="text",
    show_default=True,
    help="How to show them.",
)
@click.option("--partition", type=click.IntRange(min=0), help="Only this partition.")
@click.option("--grep", "patterns", multiple=True, help="Only lines that match this regular expression (repeatable: all).")
@click.option("--max", "limit", type=click.IntRange(min=1), help="Stop after so many lines.")
@click.option("--bootstrap-servers", help="Overrides kafka.bootstrap_servers.")
@config_option
def command(config: Path | None, bootstrap_servers: str | None, **options: Any) -> None:
    """Show messages of TOPICS: names as in Kafka, or short.

    Short names: flows, errors, blobs, blob_state, checkpoints, completions, raw_flow_logs, raw_application_logs,
    raw_proxy_logs. Without TOPICS: flows and errors.
    """
    settings = load_settings(config)
    kafka = settings.kafka
    if bootstrap_servers:
        kafka = kafka.model_copy(update={"bootstrap_servers": bootstrap_servers})
    follower = Follower(kafka, _names(options["topics"], settings.topics), _start(options["count"], options["since"]))
    show = _shown(options["patterns"], options["partition"], Output(options["output"]))
    with closing(follower):
        follower.open()
        try:
            _print(show(_records(follower, follow=options["follow"])), options["limit"])
        except KeyboardInterrupt:
            return
    if not options["follow"] and options["limit"] is None:
        click.echo("end of the topics; -f goes on with what arrives", err=True)


def _names(asked: Iterable[str], topics: TopicSettings) -> tuple[str, ...]:
    short = topics.model_dump()
    return tuple(short.get(name, name) for name in asked) or (topics.flows, topics.errors)


def _start(count: int | None, since: str | None) -> Newest | Since:
    if since is None:
        return Newest(_DEFAULT_COUNT if count is None else count)
    if count is not None:
        raise ConfigError("give --tail or --since, not both")
    return Since(_milliseconds(since))


def _milliseconds(text: str) -> int:
    """Read a time: ``0``, an age such as ``10m``, or RFC 3339."""
    if text == "0":
        return 0
    if age := re.fullmatch(r"(\d+)([smhd])", text):
        return int((time.time() - int(age[1]) * _UNITS[age[2]]) * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--since {text}: give an age such as 10m, or a time such as 2026-05-01T12:00:00Z") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _records(follower: Follower, *, follow: bool) -> Iterator[Inbound]:
    yield from follower.backlog()
    while follow:
        yield from follower.poll(1.0)


def _shown(patterns: Iterable[str], partition: int | None, output: Output) -> Callable[[Iterator[Inbound]], Iterator[str]]:
    try:
        wanted = [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise ConfigError(f"--grep {error.pattern!r}: {error}") from error
    flow_lines = FlowLines()

    def show(records: Iterator[Inbound]) -> Iterator[str]:
        for record in records:
            if partition is None or record.partition == partition:
                lines = render(record, output, lambda table: iter(flow_lines.text(table).decode().splitlines()))
                yield from (line for line in lines if all(pattern.search(line) for pattern in wanted))

    return show


def _print(lines: Iterator[str], limit: int | None) -> None:
    for number, line in enumerate(lines, start=1):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        if number == limit:
            return
