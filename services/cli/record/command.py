"""``blobtide record``: record what an HTTP source answers into zip files, without Kafka and without settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from libs.common.errors import ConfigError
from libs.common.process.logs import configure_logging
from libs.common.process.service import Stop
from libs.common.process.signals import stop_on_signals
from libs.common.settings.process import LogLevel, LogSettings
from services.cli.durations import duration
from services.cli.help_text import examples
from services.cli.pretty import ProgressLine
from services.cli.record.source import RecordingAsked, source_of
from services.cli.terminal import say


@click.command(
    epilog=examples(
        "blobtide record http://127.0.0.1:8000/ndt/get_graph_data --every 5s --to recorded",
        "blobtide record http://127.0.0.1:8000/ndt/get_detected_flow_data --name flowinfo --wrap flowinfo --to recorded",
        "blobtide record https://api.example/v1/items --items 'data[]' --header 'Authorization: @token' --to recorded",
    )
)
@click.argument("url")
@click.option(
    "--to",
    "directory",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory for the zip files, created if missing. Several recordings may share it.",
)
@click.option("--every", type=duration, default="1s", show_default=True, help="Time from one request to the next.")
@click.option("--rotate", type=duration, default="5m", show_default=True, help="Length of the interval of a file.")
@click.option("--name", help="Name of the source, in the names of the files. Default: the last part of the path.")
@click.option("--wrap", metavar="MEMBER", help="Put the answer into this member of the record, whatever it is.")
@click.option("--merge", is_flag=True, help="Make the members of the answer, an object, those of the record.  [default]")
@click.option("--items", metavar="JMESPATH", help="Make a record of each element of the list that this selects in the answer.")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="Header of every request. One with a secret takes a file: 'Authorization: @FILE'.",
)
@click.option("--allow-plaintext-credentials", is_flag=True, help="Send secrets over a connection without TLS.")
@click.option("--timeout", type=duration, default="5s", show_default=True, help="Maximum time for an answer.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many answers.  [default: never]")
@click.option(
    "--log-level",
    type=click.Choice([level.value for level in LogLevel], case_sensitive=False),
    default=LogLevel.INFO.value,
    show_default=True,
    help="What is logged to standard error; trace shows the data.",
)
def command(**options: Any) -> None:
    """Ask URL at intervals, and record the answers as lines of JSON in zip files.

    Each record has a member timestamp, the milliseconds since 1970 at which URL was asked. A file is called after the time at
    which it begins (UTC) and the source, such as 2026_05_01_12-00-00_flowinfo_json.zip. Ctrl-C completes the last one; after
    a crash the next recording into the same directory does.

    If the first request fails, so does the command. Later failures are logged, and the source is asked again.
    """
    asked = RecordingAsked(**options)
    source = source_of(asked)
    # Loaded now, so that a mistake on the command line is found at once.
    try:
        from services.cli.record.recording import Recording
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(("services.", "libs.")):
            raise
        raise ConfigError(f"record needs {error.name}: pip install 'blobtide[recorder]'") from error
    from services.sinks.kinds.archive.sink import ArchiveSettings, ArchiveSink

    configure_logging(LogSettings(level=LogLevel(asked.log_level)), service="record")
    stop = Stop()
    sink = ArchiveSink(ArchiveSettings(directory=asked.directory, rotate_seconds=asked.rotate))
    recording = Recording(source, sink, stop)
    stop_on_signals(stop.set)
    sink.open()
    progress = ProgressLine(asked.count)
    try:
        recording.run(asked.count, lambda counts: progress.show(counts.answers, lambda: f"{source.name}: {counts}"))
    finally:
        progress.clear()
        sink.close()
        if recording.counts.answers:
            say(f"{source.name}: {recording.counts}, in {asked.directory}", err=True)
