"""The work of threads on an environment's event queue: receive messages, look at the blobs they name, delete messages.

An event only says which blob to look at: events may be duplicated, late or out of order, so what is announced is what storage
reports about the blob when asked. A message is deleted only once its outcome is committed, and reappears until then.
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
from services.blob_monitor.notices import Notice, NoticeReading, read_message
from services.blob_monitor.sources import Atlas, Scope, Territory

# Used in place of a container's name; not a valid one.
QUEUE: Final = "events queue"
BATCH: Final = 32  # messages per request
_STAGE: Final = "blob_monitor"
_DELETIONS: Final = 8  # per unit; one request each, in sequence


class EventOutcome(StrEnum):
    """The outcome of an event."""

    LOOKED_AT = "looked_at"
    GONE = "gone"  # the blob no longer exists
    FOREIGN = "foreign"  # about an account, container or blob that is not followed
    OTHER = "other"  # not about a written blob
    WAITS = "waits"  # its container cannot be read now: the message reappears
    BROKEN = "broken"  # the message goes to the errors topic


@dataclass(frozen=True, slots=True)
class EventFeed:
    """The queue of events about one account."""

    name: str
    queue: Queue
    account: str | None  # as named in events; None: any


@dataclass(frozen=True, slots=True)
class EventReader:
    """Carries out jobs of kind `EVENTS`."""

    alias: str
    feed: EventFeed
    territories: tuple[Territory, ...]
    containers: Mapping[str, Container]
    settings: EventSettings
    now: Callable[[], datetime]

    def units(self, job: Job) -> Iterator[Unit]:
        """Yield the units of `job`, which may run concurrently."""
        for start in range(0, len(job.receipts), _DELETIONS):
            yield Unit(QUEUE, self._delete(job.receipts[start : start + _DELETIONS]))
        for _ in range(job.reads):
            yield Unit(QUEUE, self._read())

    def _delete(self, receipts: tuple[Receipt, ...]) -> Iterator[Message]:
        for receipt in receipts:
            try:
                self.feed.queue.delete(receipt)
            except MessageGone:  # it became visible again too soon, and will reappear with nothing new in it
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
    """Looks at the blobs named by the messages of one request, at each once."""

    reader: EventReader
    atlas: Atlas = field(init=False)
    seen: dict[tuple[str, str], ListedBlob | None] = field(default_factory=dict)
    failed: dict[str, StorageError] = field(default_factory=dict)  # by container
    outcomes: Counter[EventOutcome] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.atlas = Atlas(self.reader.territories)

    def at(self, message: QueueMessage) -> Letter | None:
        """Return the outcome of `message`; None if it has to reappear."""
        if message.deliveries > self.reader.settings.max_deliveries:
            self.outcomes[EventOutcome.BROKEN] += 1
            reason = f"read {message.deliveries} times but never handled; full listings will find the blob it may name"
            return Letter(message.receipt, (), self._dead(message, ErrorCode.UNHANDLED, reason))
        reading = read_message(message.text)
        blobs = [found for notice in reading.notices if (found := self._blob(notice)) is not None]
        if any(isinstance(found, StorageError) for found in blobs):
            return None
        self.outcomes[EventOutcome.OTHER] += reading.others
        trouble = self._trouble(message, reading)
        return Letter(message.receipt, tuple(found for found in blobs if not isinstance(found, StorageError)), trouble)

    def _trouble(self, message: QueueMessage, reading: NoticeReading) -> DeadLetter | None:
        if reading.problem is None:
            return None
        self.outcomes[EventOutcome.BROKEN] += 1
        return self._dead(message, reading.problem.code, reading.problem.reason)

    def _dead(self, message: QueueMessage, code: ErrorCode, reason: str) -> DeadLetter:
        source = {"queue": self.reader.feed.name, "message": message.receipt.message}
        data = message.text.encode("utf-8", "surrogatepass")
        return DeadLetter(_STAGE, code, reason, data, self.reader.alias.encode(), source=source)

    def _blob(self, notice: Notice) -> tuple[Scope, ListedBlob] | StorageError | None:
        """Return the blob as it is now, or the error if it cannot be read; None if there is nothing to announce."""
        scope = self._scope(notice)
        if scope is None:
            self.outcomes[EventOutcome.FOREIGN] += 1
            return None
        if notice.container in self.failed:
            self.outcomes[EventOutcome.WAITS] += 1
            return self.failed[notice.container]
        try:
            blob = self._seen(notice)
        except StorageError as error:
            self.failed[notice.container] = error
            self.outcomes[EventOutcome.WAITS] += 1
            return error
        if notice.at is not None:
            metrics.NOTICE_AGE.labels(self.reader.alias).observe(max((self.reader.now() - notice.at).total_seconds(), 0.0))
        self.outcomes[EventOutcome.LOOKED_AT if blob else EventOutcome.GONE] += 1
        return (scope, blob) if blob else None

    def _scope(self, notice: Notice) -> Scope | None:
        """Return the scope of a blob; None if it is not followed."""
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
    """Return a blob as it is in storage now; None if it does not exist."""
    try:
        blob = container.info(name)
    except BlobGone:
        return None
    except BlobUnreadable:  # a listing still shows it, and ingest reports why it cannot be read
        first = next(iter(container.list_blobs(name)), None)
        return first if first is not None and first.name == name else None
    return blob if blob.as_of else replace(blob, as_of=now())
