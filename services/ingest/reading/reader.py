"""One step of reading one blob: look at its current version, continue from the cursor, report the outcome.

Everything is read from one version, pinned by its ETag; if the blob changes meanwhile, the step is discarded and starts over,
unless an append blob was only appended to. The tail of a flow-log document may be among the bytes read but is never part of a
segment. The cursor moves only over bytes that are in a segment or dead letter of the same step, or that count as read by the
start policy.

`StorageUnavailable` propagates to the caller; every other storage error says something about this blob.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from libs.common.azure.storage.api import BlobChanged, BlobGone, BlobInfo, BlobUnreadable, Container
from libs.common.messages.events import Stream
from services.ingest.cutting import lines, whole_records
from services.ingest.cutting.window import REFERENCE_BYTES, Outlook, Progress, SizeLimits, Window
from services.ingest.reading.content import Content
from services.ingest.reading.cursor import Cursor, Visit, begin
from services.ingest.reading.decoders import Decoders
from services.ingest.reading.generation import Version
from services.ingest.reading.outcome import BlobReading, ended, published, unreadable, vanished
from services.ingest.reading.packed import PackedReader, is_packed, range_of
from services.ingest.reading.resume import Replaced, TooNarrow, check, read, resume
from services.ingest.work import GenerationEnd, ReadingTask, Skip, Step

_PAGE_BLOB = "PageBlob"
_NOT_LINES = "page blobs are not supported"
_APPEND_BLOB = "AppendBlob"


class BlobReader:
    """Reads blobs step by step. Keeps no state about blobs that makes a difference; thread-safe."""

    def __init__(
        self,
        limits: Callable[[Stream], SizeLimits],
        decoders: Decoders,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._limits = limits  # evaluated each time: topics may accept less than before
        self._packed = PackedReader(limits, decoders)
        self._clock = clock

    def step(self, container: Container, task: ReadingTask) -> Step:
        """Perform one step.

        Raises:
            StorageUnavailable: storage does not respond; nothing has happened, so repeat the step later.
        """
        if task.announcement.blob_type == _PAGE_BLOB:
            return unreadable(task, _NOT_LINES)
        try:
            visit = Visit(container, task, _look(container, task), self._clock())
            return self._visit(visit)
        except BlobChanged:
            return Step(more=True, skipped=Skip.CHANGED)
        except BlobGone:
            return vanished(task, self._clock())
        except BlobUnreadable as error:
            return unreadable(task, str(error))

    def _visit(self, visit: Visit) -> Step:
        checkpoint = visit.task.checkpoint
        if checkpoint is None:
            return self._read(visit, begin(visit)) if visit.version.size else Step(skipped=Skip.EMPTY)
        try:
            return self._read(visit, resume(visit, checkpoint, self._limits(visit.task.stream).compare))
        except TooNarrow as error:
            return Step(more=True, wanted=error.wanted)
        except Replaced:
            fresh = Cursor(offset=0, previous=checkpoint.generation)
            return ended(visit.task, GenerationEnd.REPLACED, visit.now) or self._read(visit, fresh)

    def _read(self, visit: Visit, cursor: Cursor) -> Step:
        allowance = visit.task.allowance
        end = _window_end(visit.version, cursor.offset, range_of(cursor, allowance))
        data = read(visit, cursor, cursor.offset - cursor.look_back, end)
        check(visit, cursor, data)
        window_data = data[cursor.look_back :]
        content = cursor.content or visit.detect(window_data, end)
        if is_packed(cursor, content):
            return self._packed.read(visit, cursor, content, data)
        if content is not None:
            progress = self._advance(visit, cursor, window_data, content)
            if progress.outlook is not Outlook.WIDEN:
                return published(BlobReading(visit, cursor, content, data, _with_first_bytes(visit, progress)))
        elif end == visit.version.size:
            return Step()  # too few bytes to tell what this is; more will come
        return Step(more=True, wanted=2 * allowance)

    def _advance(self, visit: Visit, cursor: Cursor, data: bytes, content: Content) -> Progress:
        limits = self._limits(visit.task.stream)
        window = Window(
            data=data,
            start=cursor.offset,
            blob_end=visit.version.size,
            closing=visit.closing,
            widest=visit.task.allowance >= max(limits.record, limits.line + 1),
            skip_from=cursor.skip_from,
            block_ends=visit.version.block_ends,
        )
        if content is Content.ENVELOPE:
            return whole_records.advance(window, limits)
        return lines.advance(window, content.line_format, limits)


def _look(container: Container, task: ReadingTask) -> Version:
    """Return the current version. The creation time costs a request only if this is not the version that was announced."""
    announced, checkpoint = task.announcement, task.checkpoint
    name = announced.blob.name
    if announced.blob_type == _APPEND_BLOB:
        info = _info(container, name)
        return replace(Version.of(info.etag, info.size, info.creation_time, ()), appended=True)
    listed = container.block_list(name)
    if announced.creation_etag == listed.etag:
        created = announced.creation_time
    elif checkpoint is not None and checkpoint.etag == listed.etag:
        created = checkpoint.creation_time
    else:
        info = _info(container, name)
        if info.etag != listed.etag:
            raise BlobChanged("the blob changed between two requests")
        appended = info.blob_type == _APPEND_BLOB
        return replace(Version.of(info.etag, info.size, info.creation_time, listed.blocks), appended=appended)
    return Version.of(listed.etag, listed.size, created, listed.blocks)


def _info(container: Container, name: str) -> BlobInfo:
    info = container.info(name)
    if info.blob_type == _PAGE_BLOB:
        raise BlobUnreadable(_NOT_LINES)
    return info


def _window_end(version: Version, offset: int, wanted: int) -> int:
    """Return where to read to: the end, else the last block boundary in reach, since records rarely cross one."""
    limit = offset + wanted
    if limit >= version.size:
        return version.size
    index = bisect_right(version.block_ends, limit)
    block_end = version.block_ends[index - 1] if index else 0
    return block_end if block_end > offset + wanted // 2 else limit


def _with_first_bytes(visit: Visit, progress: Progress) -> Progress:
    """Fetch the first bytes of a skipped range that began in an earlier step."""
    bad = tuple(
        item if item.data else replace(item, data=visit.read(item.start, min(item.end, item.start + REFERENCE_BYTES)))
        for item in progress.bad
    )
    return replace(progress, bad=bad)
