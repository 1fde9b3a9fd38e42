"""What worker threads do with the queue of an environment: take messages, look at the blobs that they name, delete messages.

An event only says which blob to look at: events come twice, late and in any order, so what is announced is what storage says of
the blob when it is asked. A message is deleted only when what it has led to is committed, and until then comes again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from libs.common.azure.storage.api import (
    BlobGone,
    BlobUnreadable,
    Container,
    ListedBlob,
    MessageGone,
    Queue,
    QueueMessage,
    Receipt,
    StorageError,
)
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.settings.monitor import EventSettings
from services.blob_monitor import metrics
from services.blob_monitor.listing import ContainerFails, Heard, Job, Letter, Message, Unit
from services.blob_monitor.notices import Notice, Reading, read_message
from services.blob_monitor.sources import Atlas, Scope, Territory

# In place of a container's name, and no name of one.
QUEUE: Final = "events queue"
BATCH: Final = 32  # messages of one request
_STAGE: Final = "blob_monitor"
_DELETIONS: Final = 8  # one request each, one after the other


class Outcome(StrEnum):
    """What became of an event."""

    LOOKED_AT = "looked_at"
    GONE = "gone"  # the blob is not there any more
    FOREIGN = "foreign"  # of an account, container or blob that is not followed
    OTHER = "other"  # not about a blob that was written
    WAITS = "waits"  # its container cannot be read now: the message comes again
    BROKEN = "broken"  # the message goes to the errors topic


@dataclass(frozen=True, slots=True)
class Feed:
    """The queue in which events about one account arrive."""

    name: str
    queue: Queue
    account: str | None  # as events name it; None: any


@dataclass(frozen=True, slots=True)
class Reader:
    """Does what jobs of kind `EVENTS` ask for."""

    alias: str
    feed: Feed
    territories: tuple[Territory, ...]
    containers: Mapping[str, Container]
    settings: EventSettings
    now: Callable[[], datetime]

    def units(self, job: Job) -> Iterator[Unit]:
        """Yield the parts of `job`, which may be done at the same time."""
        for start in range(0, len(job.receipts), _DELETIONS):
            yield Unit(QUEUE, self._delete(job.receipts[start : start + _DELETIONS]))
        for _ in range(job.reads):
            yield Unit(QUEUE, self._read())

    def _delete(self, receipts: tuple[Receipt, ...]) -> Iterator[Message]:
        for receipt in receipts:
            try:
                self.feed.queue.delete(receipt)
            except MessageGone:  # it was hidden for too short a time, comes again, and is nothing new then
                metrics.LATE_DELETIONS.labels(self.alias).inc()
        yield from ()

    def _read(self) -> Iterator[Message]:
        messages = self.feed.queue.receive(BATCH, self.settings.visibility_seconds)
        look = _Look(self)
        letters = tuple(letter for message in messages if (letter := look.at(message)) is not None)
        for outcome, count in look.outcomes.items():
            metrics.NOTICES.labels(self.alias, outcome).inc(count)
        yield Heard(letters, is_full=len(messages) >= BATCH)
        for container, error in look.failed.items():
            yield ContainerFails(container, error)


@dataclass(slots=True)
class _Look:
    """Looks at what the messages of one request name, at each blob once."""

    reader: Reader
    atlas: Atlas = field(init=False)
    seen: dict[tuple[str, str], ListedBlob | None] = field(default_factory=dict)
    failed: dict[str, StorageError] = field(default_factory=dict)  # by container
    outcomes: Counter[Outcome] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.atlas = Atlas(self.reader.territories)

    def at(self, message: QueueMessage) -> Letter | None:
        """Return what `message` leads to; None if it has to come again."""
        if message.deliveries > self.reader.settings.max_deliveries:
            self.outcomes[Outcome.BROKEN] += 1
            reason = f"read {message.deliveries} times and never dealt with; full listings find the blob that it may be about"
            return Letter(message.receipt, (), self._dead(message, ErrorCode.UNHANDLED, reason))
        reading = read_message(message.text)
        blobs = [found for notice in reading.notices if (found := self._blob(notice)) is not None]
        if any(isinstance(found, StorageError) for found in blobs):
            return None
        self.outcomes[Outcome.OTHER] += reading.others
        trouble = self._trouble(message, reading)
        return Letter(message.receipt, tuple(found for found in blobs if not isinstance(found, StorageError)), trouble)

    def _trouble(self, message: QueueMessage, reading: Reading) -> DeadLetter | None:
        if reading.problem is None:
            return None
        self.outcomes[Outcome.BROKEN] += 1
        return self._dead(message, reading.problem.code, reading.problem.reason)

    def _dead(self, message: QueueMessage, code: ErrorCode, reason: str) -> DeadLetter:
        source = {"queue": self.reader.feed.name, "message": message.receipt.message}
        data = message.text.encode("utf-8", "surrogatepass")
        return DeadLetter(_STAGE, code, reason, data, self.reader.alias.encode(), source=source)

    def _blob(self, notice: Notice) -> tuple[Scope, ListedBlob] | StorageError | None:
        """Return the blob as it is now, or why it cannot be told; None if there is nothing to tell."""
        scope = self._scope(notice)
        if scope is None:
            self.outcomes[Outcome.FOREIGN] += 1
            return None
        if notice.container in self.failed:
            self.outcomes[Outcome.WAITS] += 1
            return self.failed[notice.container]
        try:
            blob = self._seen(notice)
        except StorageError as error:
            self.failed[notice.container] = error
            self.outcomes[Outcome.WAITS] += 1
            return error
        if notice.at is not None:
            metrics.NOTICE_AGE.labels(self.reader.alias).observe(max((self.reader.now() - notice.at).total_seconds(), 0.0))
        self.outcomes[Outcome.LOOKED_AT if blob else Outcome.GONE] += 1
        return (scope, blob) if blob else None

    def _scope(self, notice: Notice) -> Scope | None:
        """Return the scope of a blob that is followed."""
        account = self.reader.feed.account
        if account is not None and notice.account is not None and notice.account.lower() != account.lower():
            return None
        found = self.atlas.find(f"{self.reader.alias}/{notice.container}/{notice.name}")
        return found[0] if found and found[0].territory.stream_of(notice.name) is not None else None

    def _seen(self, notice: Notice) -> ListedBlob | None:
        key = notice.container, notice.name
        if key not in self.seen:
            self.seen[key] = _ask(self.reader.containers[notice.container], notice.name, self.reader.now)
        return self.seen[key]


def _ask(container: Container, name: str, now: Callable[[], datetime]) -> ListedBlob | None:
    """Return a blob as storage shows it now; None if it is not there."""
    try:
        blob = container.info(name)
    except BlobGone:
        return None
    except BlobUnreadable:  # a listing shows it all the same, and ingest says why it is not read
        first = next(iter(container.list_blobs(name)), None)
        return first if first is not None and first.name == name else None
    return blob if blob.as_of else replace(blob, as_of=now())
