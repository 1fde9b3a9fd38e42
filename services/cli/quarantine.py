"""``blobtide quarantine``: list and release blobs set aside because most of their content is bad or reading them crashes."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from libs.common.errors import CodecError, ConfigError
from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.pretty import Table, show_table
from services.cli.terminal import say

if TYPE_CHECKING:
    from libs.common.kafka.records import Inbound, Outbound
    from libs.common.messages.events import BlobState
    from libs.common.settings import Settings

_FORMATS: Final = ("text", "json")
_BLOB: Final = "prod.weu/insights-logs-flowlogflowevent/PT1H.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """A blob that the service `stage` has set aside."""

    stage: str
    blob: str
    generation: str
    offset: int  # bytes of the blob that were read
    since: datetime
    reason: str
    partition: int


@dataclass(slots=True)
class QuarantinedBlobs:
    """Blobs in quarantine, by name."""

    parser: dict[str, Entry] = field(default_factory=dict)
    ingest: dict[str, Entry] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Entry]:
        yield from sorted((*self.parser.values(), *self.ingest.values()), key=lambda one: (one.since, one.blob))


@click.group(epilog=examples("blobtide quarantine list", f"blobtide quarantine release {_BLOB}"))
def command() -> None:
    """List or release quarantined blobs.

    To keep a bad blob from blocking the others, the parser quarantines it if most of it cannot be parsed, and ingest if
    reading it crashes repeatedly. What is not read is referenced in Errors.
    """


@command.command("list", short_help="List quarantined blobs.")
@config_option
@click.option(
    "--format",
    "output",
    type=click.Choice(_FORMATS),
    default="text",
    show_default=True,
    help="text for people, json for one object per line.",
)
def show(config: Path | None, output: str) -> None:
    """List quarantined blobs: by which service, since when, from which byte on, and why."""
    found = list(_found(load_logged(config, "quarantine")))
    if output == "json":
        for entry in found:
            say(json.dumps(_facts(entry)))
    elif found:
        rows = [(_since(one), one.stage, json.dumps(one.blob), str(one.offset), one.reason) for one in found]
        show_table(
            Table(("SINCE", "BY", "BLOB", "FROM BYTE", "WHY"), rows),
            lambda table: (f"{since}  {by:6}  {blob}  from {offset}: {why}" for since, by, blob, offset, why in table.rows),
        )
    say(f"{len(found)} in quarantine", err=True)


def _since(entry: Entry) -> str:
    return entry.since.isoformat(timespec="seconds")


def _facts(entry: Entry) -> Mapping[str, object]:
    return {
        "stage": entry.stage,
        "blob": entry.blob,
        "generation": entry.generation,
        "offset": entry.offset,
        "since": _since(entry),
        "reason": entry.reason,
    }


@command.command(epilog=examples(f"blobtide quarantine release {_BLOB}", f"blobtide quarantine release --replay {_BLOB}"))
@click.argument("blobs", metavar="BLOB...", nargs=-1, required=True)
@click.option("--replay", is_flag=True, help="Read the blobs again from the beginning, to recover what was skipped.")
@config_option
def release(blobs: tuple[str, ...], config: Path | None, *, replay: bool) -> None:
    """Resume reading blobs. Name each BLOB as `list` shows it: account/container/name.

    New content is parsed within seconds, and ingest continues where it stopped. Content that the parser skipped in the meantime
    is recovered only with --replay: the blob is read again, and destinations recognise rows they already have.
    """
    from libs.common.kafka.writing import write

    settings = load_logged(config, "quarantine")
    found = _found(settings)
    for blob in blobs:
        if blob not in found.parser and blob not in found.ingest:
            raise ConfigError(f"{json.dumps(blob)} is not in quarantine; `blobtide quarantine list` shows the blobs that are")
    announced = [blob for blob in blobs if replay or blob in found.ingest]
    announcements = list(_announcements(settings, announced, replay=replay)) if announced else []
    # The parser first: content that ingest then reads must not still be quarantined.
    write(settings.kafka, [_release(settings, found.parser[blob]) for blob in blobs if blob in found.parser])
    write(settings.kafka, announcements)
    for blob in blobs:
        say(f"released {json.dumps(blob)}")


def _release(settings: Settings, entry: Entry) -> Outbound:
    from libs.common.kafka.records import Outbound

    return Outbound(settings.topics.quarantine, None, entry.blob.encode(), partition=entry.partition)


def _announcements(settings: Settings, blobs: list[str], *, replay: bool) -> Iterator[Outbound]:
    from libs.common.kafka.records import Outbound
    from libs.common.messages.events import BlobReleased, encode_event, event_headers

    states = _states(settings, blobs)
    replay_id = f"release-{secrets.token_hex(4)}" if replay else ""
    for blob in blobs:
        state = states.get(blob)
        if state is None:
            raise ConfigError(
                f"the monitor does not know {json.dumps(blob)}; the blob was deleted, or {settings.topics.blob_state} was lost"
            )
        event = BlobReleased(
            blob, state.stream, state.status, state.etag, state.size, state.blob_type, state.creation_time,
            datetime.now(UTC), state.baseline_offset, replay_id or state.replay_id, state.labels,
        )  # fmt: skip
        yield Outbound(settings.topics.blobs, encode_event(event), blob.encode(), event_headers(event))


def _states(settings: Settings, blobs: list[str]) -> Mapping[str, BlobState]:
    from libs.common.messages.events import BlobState, decode_event

    wanted = {blob.encode() for blob in blobs}
    found: dict[str, BlobState] = {}

    def apply(record: Inbound) -> None:
        if record.key in wanted:
            event = decode_event(record.value) if record.value is not None else None
            if isinstance(event, BlobState):
                found[event.blob] = event

    _read(settings, settings.topics.blob_state, apply)
    return found


def _found(settings: Settings) -> QuarantinedBlobs:
    found = QuarantinedBlobs()

    def parser(record: Inbound) -> None:
        _put(found.parser, record, is_held=record.value is not None)

    def ingest(record: Inbound) -> None:
        from libs.common.messages.events import QUARANTINED

        _put(found.ingest, record, is_held=QUARANTINED in record.headers)

    _read(settings, settings.topics.quarantine, parser)
    _read(settings, settings.topics.checkpoints, ingest)
    return found


def _put(entries: dict[str, Entry], record: Inbound, *, is_held: bool) -> None:
    blob = (record.key or b"").decode(errors="replace")
    entries.pop(blob, None)
    entry = _entry(record) if is_held else None
    if entry is not None:
        entries[blob] = entry


def _entry(record: Inbound) -> Entry | None:
    from libs.common.messages.events import BlobCheckpoint, BlobQuarantined, decode_event

    try:
        event = decode_event(record.value or b"")
    except CodecError as error:
        say(f"skipping an unreadable record of {record.topic}: {error}", err=True)
        return None
    match event:
        case BlobQuarantined():
            reason = f"{event.rejected} of {event.records} rows and records were bad"
            at = event.quarantined_at
            return Entry("parser", event.blob, event.generation, event.offset, at, reason, record.partition)
        case BlobCheckpoint():
            reason = f"{event.crashes} consecutive crashes while reading it"
            at = event.updated_at
            return Entry("ingest", event.blob, event.generation, event.next_offset, at, reason, record.partition)
    return None


def _read(settings: Settings, topic: str, apply: Callable[[Inbound], None]) -> None:
    from libs.common.kafka.readers.compacted import CompactedTable

    with closing(CompactedTable(settings.kafka, topic, apply)) as table:
        table.open()
        table.catch_up()
