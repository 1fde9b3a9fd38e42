"""``blobtide ingest-blob``: read one blob once, from an offset, and write its segments to their topic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from libs.common.errors import BlobtideError, CodecError, ConfigError, ServerUnreachable
from libs.common.settings import Settings
from libs.common.suggestions import did_you_mean
from services.cli.blobs.ingested import Ingested
from services.cli.blobs.known import events_about, rule_of
from services.cli.help_text import examples
from services.cli.options import config_option, load_logged
from services.cli.pretty import ProgressLine
from services.cli.terminal import say

if TYPE_CHECKING:
    from libs.common.azure.storage.api import BlobInfo, Container
    from libs.common.kafka.topics.topic_limits import TopicLimits
    from libs.common.messages.blobs import BlobId
    from libs.common.messages.events import BlobCheckpoint, Stream
    from libs.common.messages.labels import Labels
    from services.cli.blobs.raw_writer import RawWriter
    from services.ingest.once import OneBlob
    from services.ingest.work import Announcement, Step

_BLOB: Final = "cp2.P1/commerce-logs-separated/kubernetes/20260501.api-1_default_platform-4f.gz"


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the options say."""

    blob: BlobId
    start: int
    service: str | None
    is_closed: bool
    leaves_gap: bool


@click.command(
    "ingest-blob",
    epilog=examples(
        f"blobtide ingest-blob {_BLOB}",
        f"blobtide ingest-blob --start-offset 1048576 --json {_BLOB}",
        f"blobtide ingest-blob --service api --closed {_BLOB}",
    ),
)
@click.argument("blob")
@click.option(
    "--start-offset",
    "start",
    type=click.IntRange(min=0),
    default=0,
    help="Leave out the lines that begin before this byte; of a compressed blob, before this byte of its text.",
)
@click.option("--service", help="Read it as a log of this selector, whatever its name.  [default: the one that takes the name]")
@click.option("--closed", "is_closed", is_flag=True, help="Its last line is complete, even if it has no line end.")
@click.option("--leave-gap", "leaves_gap", is_flag=True, help="Allow an offset behind what ingest has read.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as a JSON object.")
@config_option
def command(config: Path | None, blob: str, *, as_json: bool, **options: Any) -> None:
    """Read BLOB (account/container/name, as `blobtide list-blobs` prints it) once, and write its lines to their raw topic.

    It is read as ingest reads it: to the end that it has now, in the same segments, and with the same reasons for what cannot
    be read, which goes to Errors. Rows keep their identity, so that destinations that recognise rows hold them once, even if
    ingest reads the blob too. Its checkpoint and its completions stay as they are.

    The exit code is 1 if something could not be read.
    """
    from libs.common.messages.blobs import BlobId
    from libs.common.settings.streams import raw_topics
    from services.cli.blobs.raw_writer import RawWriter

    settings = load_logged(config, "ingest-blob")
    try:
        asked = _Asked(BlobId.parse(blob), **options)
    except CodecError as error:
        raise ConfigError(str(error)) from error
    stream, labels = _taken_as(settings, asked)
    topic = raw_topics(settings.topics)[stream]
    writer = RawWriter(settings.kafka, topic, settings.topics.errors)
    with closing(_container(settings, asked.blob)) as container, closing(writer):
        one = _blob(settings, asked, stream, _announcement(container, asked, stream, labels))
        writer.open()
        result = Ingested(str(asked.blob), topic, one.announcement.size)
        _ingest(_steps(settings, writer.limits, container, one), writer, result)
    say(json.dumps(result.values(), ensure_ascii=False) if as_json else "\n".join(result.text()))
    if result.refused:
        raise SystemExit(1)


def _taken_as(settings: Settings, asked: _Asked) -> tuple[Stream, Labels]:
    """Return the stream and the labels of the blob. Raises ConfigError if the settings do not say."""
    blob = asked.blob
    if asked.service is not None:
        from services.blob_monitor.sources import territories

        place = (blob.account, blob.container)
        selectors = {one.selector: one for one in territories(settings.subscriptions) if (one.alias, one.container) == place}
        territory = selectors.get(asked.service) if asked.service else None
        if territory is None:
            known = sorted(filter(None, selectors))
            hint = f"{did_you_mean(asked.service, known)}; known are {', '.join(known) or 'none'}"
            raise ConfigError(f"no source of {blob.account}/{blob.container} has a selector {asked.service}{hint}")
        return territory.rules[0].stream, territory.rules[0].labels(blob.name, territory.place)
    taken = rule_of(settings, blob)
    if taken is None:
        raise ConfigError(f"the settings do not cover {blob}: no source or selector of an enabled environment takes it")
    territory, rule = taken
    return rule.stream, rule.labels(blob.name, territory.place)


def _container(settings: Settings, blob: BlobId) -> Container:
    from libs.common.azure.storage.blobs import open_container
    from services.ingest.sources import Sources

    container = Sources(settings.subscriptions, open_container).container(blob)
    if container is None:
        raise ConfigError(f"no enabled environment of the settings has the container {blob.account}/{blob.container}")
    return container


def _announcement(container: Container, asked: _Asked, stream: Stream, labels: Labels) -> Announcement:
    """Announce the blob as storage has it now."""
    from libs.common.messages.labels import pack_labels
    from services.ingest.work import Announcement

    info = _info(container, asked.blob)
    return Announcement(
        asked.blob,
        info.etag,
        info.size,
        closed=asked.is_closed,
        stream=stream,
        blob_type=info.blob_type,
        creation_time=info.creation_time,
        creation_etag=info.etag,
        labels=pack_labels(labels),
    )


def _info(container: Container, blob: BlobId) -> BlobInfo:
    from libs.common.azure.storage.api import BlobGone, BlobUnreadable, StorageError

    try:
        return container.info(blob.name)
    except BlobGone as error:
        raise ConfigError(f"there is no blob {blob}") from error
    except BlobUnreadable as error:
        raise BlobtideError(f"{blob}: {error}") from error
    except StorageError as error:
        raise ServerUnreachable(f"{blob.account}: {error}") from error


def _blob(settings: Settings, asked: _Asked, stream: Stream, announced: Announcement) -> OneBlob:
    """Add what the monitor and ingest know. Raises ConfigError if ingest would not read the blob either."""
    from libs.common.messages.events import BlobState, BlobStatus
    from services.ingest.once import OneBlob

    state = next(reversed(events_about(settings, settings.topics.blob_state, asked.blob, BlobState)), None)
    if state is not None and state.status is BlobStatus.CLOSED and state.etag == announced.etag:
        announced = replace(announced, closed=True)
    most = min(settings.ingest.read_bytes, settings.ingest.commit_bytes)
    known = _checkpoint(settings, asked.blob)
    return OneBlob(announced, known, stream, most, asked.start, asked.leaves_gap)


def _checkpoint(settings: Settings, blob: BlobId) -> BlobCheckpoint | None:
    from libs.common.messages.events import BlobCheckpoint
    from services.ingest.pending.tries import is_quarantined

    found = next(reversed(events_about(settings, settings.topics.checkpoints, blob, BlobCheckpoint)), None)
    if found is not None and is_quarantined(found):
        raise ConfigError(f"{blob} is in quarantine, because reading it crashed: see `blobtide quarantine release`")
    return found if found is not None and found.generation else None  # others only count attempts


def _steps(settings: Settings, limits: TopicLimits, container: Container, blob: OneBlob) -> Iterator[Step]:
    from services.ingest.limits import check_sizes, cutting
    from services.ingest.once import read_once
    from services.ingest.reading.decoders import Decoders
    from services.ingest.reading.reader import BlobReader

    check_sizes(settings)
    reader = BlobReader(partial(cutting, settings, limits), Decoders(settings.ingest.decoder_bytes))
    return read_once(partial(reader.step, container), blob)


def _ingest(steps: Iterator[Step], writer: RawWriter, result: Ingested) -> None:
    from libs.common.azure.storage.api import StorageError

    progress = ProgressLine(result.size)
    try:
        for step in steps:
            writer.write(step)
            result.add(step)
            progress.show(result.read_to, lambda: f"{result.lines:,} lines in {result.segments:,} segments")
    except StorageError as error:
        raise ServerUnreachable(str(error)) from error
    finally:
        progress.clear()
