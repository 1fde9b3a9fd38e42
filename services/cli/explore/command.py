"""``blobtide explore``: look into the raw topics, line by line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from libs.common.errors import CodecError, ConfigError
from services.cli.explore.lines import Filter, Line, blob_filter, field_filter, label_filter, lines_of, text_filter
from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.suggestions import topic_names
from services.cli.terminal import say

if TYPE_CHECKING:
    from libs.common.kafka.readers.follow import Follower
    from libs.common.kafka.records import Inbound
    from libs.common.settings.kafka import TopicSettings

_RAW: Final = ("raw_application_logs", "raw_proxy_logs")
_LABELS: Final = ("subscription", "environment", "service")
_NEWEST_SEGMENTS: Final = 100


class Shown(StrEnum):
    """How lines are shown."""

    TEXT = "text"
    JSON = "json"
    RAW = "raw"


@click.command(
    "explore",
    epilog=examples(
        "blobtide explore --service api --grep NullPointer",
        "blobtide explore --from-beginning --field logs.level=ERROR --max 20 --format json",
        "blobtide explore raw_proxy_logs --analyze --max 100000",
    ),
)
@click.argument("topics", nargs=-1, shell_complete=topic_names("raw_"))
@click.option("--from-beginning", is_flag=True, help="Begin with the oldest line.  [default: in the newest 100 segments]")
@click.option("--max", "most", type=click.IntRange(min=1), default=100, show_default=True, help="Stop after so many lines.")
@click.option("--skip", type=click.IntRange(min=0), default=0, help="Leave out so many lines that meet the filters.")
@click.option("--subscription", help="Only lines of this subscription.")
@click.option("--environment", "--env", "environment", help="Only lines of this environment.")
@click.option("--service", help="Only lines of this selector.")
@click.option("--blob", "--blob-filter", "blob", help="Only lines of blobs whose id matches this glob.")
@click.option("--grep", "--filter-pattern", "patterns", multiple=True, help="Only lines that match this regular expression.")
@click.option("--field", "fields", multiple=True, help="Only lines with a JSON field: PATH=VALUE, PATH!=VALUE or PATH~REGEX.")
@click.option(
    "--format",
    "--output-format",
    "output",
    type=click.Choice([kind.value for kind in Shown]),
    default=Shown.TEXT.value,
    show_default=True,
    help="text: service, blob, offset and line; json: an object per line; raw: the line alone.",
)
@click.option("--info", is_flag=True, help="Show only how many segments and lines there are, by topic and partition.")
@click.option("--analyze", is_flag=True, help="Show sums over the lines instead of the lines.")
@config_option
def command(config: Path | None, **options: Any) -> None:
    """Show lines of TOPICS as they are in the blobs, before they are parsed. Default: raw_application_logs and raw_proxy_logs.

    All filters must be met. They compare, and are never run as code. Nothing is committed, so services are not disturbed.
    """
    from libs.common.kafka.readers.follow import Follower, Newest, Since

    settings = load_logged(config, "explore")
    start = Since(0) if options["from_beginning"] or options["info"] else Newest(_NEWEST_SEGMENTS)
    follower = Follower(settings.kafka, _names(options["topics"] or _RAW, settings.topics), start)
    with closing(follower):
        follower.open()
        if options["info"]:
            _info(follower)
            return
        found = islice(_lines(follower, _filters(options)), options["skip"], options["skip"] + options["most"])
        _show(found, Shown(options["output"]), analyze=options["analyze"])


def _names(asked: Iterable[str], topics: TopicSettings) -> tuple[str, ...]:
    short = topics.model_dump()
    return tuple(str(short.get(name, name)) for name in asked)


def _filters(options: dict[str, Any]) -> list[Filter]:
    """Return the filters of the options. Raises ConfigError if one is malformed."""
    found = [label_filter(name, options[name]) for name in _LABELS if options[name] is not None]
    if options["blob"] is not None:
        found.append(blob_filter(options["blob"]))
    return [*found, *_made("--grep", text_filter, options["patterns"]), *_made("--field", field_filter, options["fields"])]


def _made(option: str, make: Callable[[str], Filter], texts: Iterable[str]) -> Iterator[Filter]:
    for text in texts:
        try:
            yield make(text)
        except ValueError as error:
            raise ConfigError(f"{option} {text!r}: {error}") from error


def _lines(follower: Follower, filters: list[Filter]) -> Iterator[Line]:
    for record in follower.backlog():
        yield from (line for line in _of(record) if all(meets(line) for meets in filters))


def _of(record: Inbound) -> list[Line]:
    try:
        return list(lines_of(record))
    except CodecError as error:
        say(f"explore: {record.topic}/{record.partition}, offset {record.offset}: {error}", err=True)
        return []


def _show(lines: Iterator[Line], shown: Shown, *, analyze: bool) -> None:
    if analyze:
        from services.cli.explore.analysis import Analysis

        sums = Analysis()
        for line in lines:
            sums.add(line)
        say(json.dumps(sums.values(), ensure_ascii=False) if shown is Shown.JSON else "\n".join(sums.text()))
        return
    from services.cli.streams import standard_output

    with standard_output() as out:
        for line in lines:
            _print(line, shown, out)


def _print(line: Line, shown: Shown, out: BinaryIO) -> None:
    match shown:
        case Shown.RAW:
            text = line.text
        case Shown.JSON:
            text = json.dumps(line.values(), ensure_ascii=False, separators=(",", ":"))
        case Shown.TEXT:
            text = f"{line.labels.get('service', '-')}  {line.segment.blob}:{line.offset}  {line.text}"
    out.write(f"{text}\n".encode(errors="backslashreplace"))


def _info(follower: Follower) -> None:
    counts: dict[tuple[str, int], list[int]] = {}
    for record in follower.backlog():
        count = counts.setdefault((record.topic, record.partition), [0, 0, 0])
        value = record.value or b""
        for index, more in enumerate((1, value.count(b"\n"), len(value))):
            count[index] += more
    for (topic, partition), (segments, lines, size) in sorted(counts.items()):
        say(f"{topic}/{partition}: {segments:,} segments, {lines:,} lines, {size:,} bytes")
    if not counts:
        say("the topics are empty")
