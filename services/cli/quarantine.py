"""``blobtide quarantine``: which blobs are not read any more since most of them is bad, and how to have them read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from libs.common.errors import ConfigError
from services.cli.help_text import examples
from services.cli.options import config_option, load_logged

if TYPE_CHECKING:
    from libs.common.kafka.records import Inbound
    from libs.common.settings import Settings

_FORMATS: Final = ("text", "json")


@dataclass(frozen=True, slots=True)
class Entry:
    """A blob in quarantine."""

    stage: str  # the service that does not read it
    blob: str
    generation: str
    offset: int  # up to where it was read, in bytes of the blob
    since: datetime
    reason: str
    partition: int


@click.group(
    epilog=examples("blobtide quarantine list", "blobtide quarantine release prod.weu/insights-logs-flowlogflowevent/PT1H.json")
)
def command() -> None:
    """List or release blobs that are in quarantine.

    A blob of which most cannot be parsed is left alone, so that it does not stop the others: its segments are named in Errors.
    """


@command.command("list")
@config_option
@click.option("--format", "output", type=click.Choice(_FORMATS), default="text", show_default=True, help="One object a line.")
def show(config: Path | None, output: str) -> None:
    """Show which blobs are in quarantine, since when and why."""
    entries = _entries(load_logged(config, "quarantine"))
    for entry in sorted(entries.values(), key=lambda one: (one.since, one.blob)):
        since = entry.since.isoformat(timespec="seconds")
        if output == "json":
            facts = {"stage": entry.stage, "blob": entry.blob, "generation": entry.generation, "offset": entry.offset}
            click.echo(json.dumps({**facts, "since": since, "reason": entry.reason}))
        else:
            click.echo(f"{since}  {entry.stage}  {json.dumps(entry.blob)}  from {entry.offset}: {entry.reason}")
    click.echo(f"{len(entries)} in quarantine", err=True)


@command.command()
@click.argument("blobs", metavar="BLOB...", nargs=-1, required=True)
@config_option
def release(blobs: tuple[str, ...], config: Path | None) -> None:
    """Have blobs read again from now on. BLOB is named as `list` shows it: account/container/name.

    What comes of them is parsed again within seconds. What was put into Errors by reference meanwhile does not come by itself.
    """
    from libs.common.kafka.records import Outbound
    from libs.common.kafka.writing import write

    settings = load_logged(config, "quarantine")
    entries = _entries(settings)
    for blob in blobs:
        if blob not in entries:
            raise ConfigError(f"{json.dumps(blob)} is not in quarantine; `blobtide quarantine list` shows what is")
    topic = settings.topics.quarantine
    write(settings.kafka, [Outbound(topic, None, blob.encode(), partition=entries[blob].partition) for blob in blobs])
    for blob in blobs:
        click.echo(f"released {json.dumps(blob)}")


def _entries(settings: Settings) -> Mapping[str, Entry]:
    from libs.common.kafka.compacted import CompactedTable

    found: dict[str, Entry] = {}

    def apply(record: Inbound) -> None:
        found.pop((record.key or b"").decode(errors="replace"), None)
        entry = _entry(record)
        if entry is not None:
            found[entry.blob] = entry

    with closing(CompactedTable(settings.kafka, settings.topics.quarantine, apply)) as table:
        table.open()
        table.catch_up()
    return found


def _entry(record: Inbound) -> Entry | None:
    from libs.common.errors import CodecError
    from libs.common.events import BlobQuarantined, decode_event

    try:
        event = decode_event(record.value) if record.value is not None else None
    except CodecError as error:
        click.echo(f"a record of {record.topic} cannot be read and is passed over: {error}", err=True)
        return None
    if not isinstance(event, BlobQuarantined):
        return None
    reason = f"{event.rejected} of {event.records} records were bad"
    at = event.quarantined_at
    return Entry("parser", event.blob, event.generation, event.offset, at, reason, record.partition)
