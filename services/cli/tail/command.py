"""``blobtide tail``: read the pipeline's topics, without a consumer group, decoded into readable lines or JSON."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from libs.common.errors import ConfigError
from libs.common.kafka.readers.follow import Follower, Newest, Since
from libs.common.kafka.records import Inbound
from libs.common.kafka.topics.topic_ids import TopicIds
from libs.common.rows.formats.line import FlowLines
from libs.common.rows.reading import reader_of
from libs.common.rows.types import ROW_TYPES, row_type
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.common.settings.problems import did_you_mean
from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.since import milliseconds_of
from services.cli.streams import standard_output
from services.cli.suggestions import topic_names
from services.cli.tail.render import AsRows, Output, render
from services.cli.tail.where import FilteredReader, json_rows_in, row_type_of
from services.cli.terminal import say

_DEFAULT_COUNT: Final = 10


@click.command(
    short_help="Follow the pipeline's topics.",
    epilog=examples(
        "blobtide tail -f flows --grep Denied",
        """blobtide tail -f --where "action = 'deny' and in_subnet(src_ip, '10.0.0.0/8')\"""",
        "blobtide tail errors --since 2h --format json",
        "blobtide tail --rows dead_letters --since 1d --format json",
        "blobtide tail raw_flow_logs --partition 3 -n 1 --bootstrap-servers 127.0.0.1:9092",
    ),
)
@click.argument("topics", nargs=-1, shell_complete=topic_names())
@click.option("-f", "--follow", is_flag=True, help="Keep printing new messages, until Ctrl-C.")
@click.option(
    "-n",
    "--tail",
    "count",
    type=click.IntRange(min=0),
    help=f"Begin with this many of the newest lines.  [default: {_DEFAULT_COUNT}]",
)
@click.option(
    "--since",
    help="Begin at a time instead: an age (30s, 10m, 2h, 1d), RFC 3339 such as 2026-05-01T12:00:00Z (UTC if it has no zone), "
    "or 0 for the beginning.",
)
@click.option(
    "--format",
    "output",
    type=click.Choice([kind.value for kind in Output]),
    default="text",
    show_default=True,
    help="Lines for people, or one JSON object per line.",
)
@click.option(
    "--rows",
    type=click.Choice(list(ROW_TYPES)),
    help="Read messages as rows of this type and show their columns; without TOPICS, from the topic of that type.",
)
@click.option(
    "--where",
    help="Show only rows that meet this SQL condition (docs/reference/conditions.md). Implies --rows of the type that TOPICS "
    "carry, flows without TOPICS. Applied before --tail.",
)
@click.option("--partition", type=click.IntRange(min=0), help="Only this partition of each topic.  [default: all]")
@click.option(
    "--grep",
    "patterns",
    multiple=True,
    help="Show only lines that match this regular expression; if repeated, lines must match all. Applied before --tail.",
)
@click.option("--max", "limit", type=click.IntRange(min=1), help="Stop after this many lines.  [default: no limit]")
@click.option("--bootstrap-servers", help="Kafka brokers; overrides kafka.bootstrap_servers.")
@config_option
def command(config: Path | None, bootstrap_servers: str | None, **options: Any) -> None:
    """Show messages of TOPICS, given by their names in Kafka or short names. A flow batch is shown as one line per flow.

    Resources and changes of resources are shown as rows if no other topic is.

    Short names: flows, errors, blobs, blob_state, checkpoints, completions, quarantine, raw_flow_logs,
    raw_application_logs, raw_proxy_logs. Default: flows and errors.

    As JSON, every line has the same keys: topic, partition, offset, timestamp, key, type and value. Each flow of a flow batch
    is the value of its own line; the other keys are those of the batch.
    """
    settings = load_logged(config, "tail")
    kafka = settings.kafka
    if bootstrap_servers:
        kafka = kafka.model_copy(update={"bootstrap_servers": bootstrap_servers})
    start = _start(options["count"], options["since"])
    as_rows = _as_rows(options, settings.topics, kafka)
    follower = Follower(kafka, _names(options["topics"], settings.topics, as_rows), start, options["partition"])
    show = _shown(options["patterns"], Output(options["output"]), as_rows)
    with standard_output() as out, closing(follower):
        _open(follower, options["topics"], settings.topics)
        try:
            _print(_lines(follower, show, start, follow=options["follow"]), options["limit"], out)
        except KeyboardInterrupt:
            return
        finally:
            if as_rows and isinstance(as_rows.read, FilteredReader):
                say(f"rows filtered out: {as_rows.read.filtered}", err=True)
    if not options["follow"] and options["limit"] is None:
        say("end of the topics; use -f to keep following", err=True)


def _as_rows(options: Mapping[str, Any], topics: TopicSettings, kafka: KafkaSettings) -> AsRows | None:
    name, where = options["rows"], options["where"]
    short = topics.model_dump()
    asked = [short.get(topic, topic) for topic in options["topics"]]
    if name is None and where is None:
        kind = json_rows_in(asked, topics)
    else:
        kind = row_type(name) if name else row_type_of(asked, topics)
    if kind is None:
        return None
    read = reader_of(kind, TopicIds(kafka))
    return AsRows(kind, read if where is None else FilteredReader.of(read, kind, where))


def _names(asked: Iterable[str], topics: TopicSettings, as_rows: AsRows | None) -> tuple[str, ...]:
    short = topics.model_dump()
    usual = (topics.flows, topics.errors) if as_rows is None else (short[as_rows.row_type.topic],)
    return tuple(short.get(name, name) for name in asked) or usual


def _open(follower: Follower, asked: Iterable[str], topics: TopicSettings) -> None:
    try:
        follower.open()
    except ConfigError as error:
        wrong = next((name for name in asked if name in str(error)), "")
        raise ConfigError(f"{error}{did_you_mean(wrong, topics.model_dump())}") from error


def _start(count: int | None, since: str | None) -> Newest | Since:
    if since is None:
        return Newest(_DEFAULT_COUNT if count is None else count)
    if count is not None:
        raise ConfigError("give --tail or --since, not both")
    return Since(milliseconds_of("--since", since))


Show = Callable[[Iterable[Inbound]], Iterator[str]]


def _lines(follower: Follower, show: Show, start: Newest | Since, *, follow: bool) -> Iterator[str]:
    backlog = show(follower.backlog())
    # A message may hold thousands of flows: the newest N messages contain at least the newest N lines.
    yield from deque(backlog, maxlen=start.count) if isinstance(start, Newest) else backlog
    while follow:
        yield from show(follower.poll(1.0))


def _shown(patterns: Iterable[str], output: Output, as_rows: AsRows | None) -> Show:
    try:
        wanted = [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise ConfigError(f"--grep {error.pattern!r}: {error}") from error
    flow_lines = FlowLines()

    def show(records: Iterable[Inbound]) -> Iterator[str]:
        for record in records:
            lines = render(record, output, flow_lines, as_rows)
            yield from (line for line in lines if all(pattern.search(line) for pattern in wanted))

    return show


def _print(lines: Iterator[str], limit: int | None, out: BinaryIO) -> None:
    for number, line in enumerate(lines, start=1):
        out.write(f"{line}\n".encode())
        out.flush()
        if number == limit:
            return
