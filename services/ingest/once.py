"""Read one blob once, from an offset to its end, in the same steps and with the same identities as ingest.

The checkpoint of ingest, if there is one, tells the name of the generation; it is not moved. So what is published has the same
positions as what ingest publishes, and whoever has it already recognises it.

Destinations that remember one position per blob take whatever is below it for delivered. So text between what ingest has read
and the offset would be lost there when ingest reads it; such a gap is refused unless it is wanted.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from libs.common.errors import BlobtideError, ConfigError
from libs.common.messages.blobs import BlobId
from libs.common.messages.events import BlobCheckpoint, Stream
from libs.common.messages.segments import Segment
from services.ingest.limits import allowance
from services.ingest.work import Announcement, GenerationEnd, ReadingTask, Skip, Step

MOST_CHANGES: Final = 5  # of a blob while it is read, in a row
_NEWLINE: Final = b"\n"


@dataclass(frozen=True, slots=True)
class OneBlob:
    """A blob to read once.

    Attributes:
        announcement: the blob as it is now; its `replay_id` and `baseline` are not used.
        known: the checkpoint of ingest; None if it has not read the blob.
        most: bytes to read in one step.
        start: offset, in the text if the blob is compressed; lines that begin before it are left out. Of documents, the
            committed block that contains it is the first.
        leaves_gap: whether it may lie behind what ingest has read.
    """

    announcement: Announcement
    known: BlobCheckpoint | None
    stream: Stream
    most: int
    start: int = 0
    leaves_gap: bool = False


def read_once(read: Callable[[ReadingTask], Step], blob: OneBlob) -> Iterator[Step]:
    """Yield the outcome of each step; nothing if there is nothing to read. `read` performs a step.

    Raises:
        ConfigError: the offset lies behind the end, or leaves a gap.
        BlobtideError: the blob was replaced or deleted meanwhile, or changes all the time.
        StorageUnavailable: storage does not respond.
    """
    if not blob.start:
        yield from _replayed(read, blob)
        return
    for _ in range(MOST_CHANGES):
        try:
            yield from _behind_offset(read, blob)
        except _Changed:
            continue
        return
    raise _restless(blob.announcement.blob)


class _Changed(Exception):
    """The blob changed between two looks, before anything of it was handed back."""


def _behind_offset(read: Callable[[ReadingTask], Step], blob: OneBlob) -> Iterator[Step]:
    """Find out, by a first step, what the blob is; then leave out the text before the offset, or do not even read it."""
    for step in _replayed(read, blob):
        checkpoint = step.checkpoint
        if checkpoint is not None:
            _refuse_gap(blob, checkpoint)
        if checkpoint is not None and not checkpoint.encoding:
            yield from _from_offset(read, blob, checkpoint)
            return
        yield _without_lines_before(blob.start, step)
        if checkpoint is not None and not step.more:
            _refuse_end(blob, checkpoint.decoded_offset or 0)


def _replayed(read: Callable[[ReadingTask], Step], blob: OneBlob) -> Iterator[Step]:
    """Read the blob from its beginning, in the generation that ingest has read if it is still the same."""
    announcement = replace(blob.announcement, replay_id=f"once-{secrets.token_hex(4)}", baseline=None)
    return _steps(read, ReadingTask(announcement, blob.known, blob.stream, blob.most), blob.most)


def _steps(read: Callable[[ReadingTask], Step], task: ReadingTask, most: int) -> Iterator[Step]:
    """Perform steps until there is nothing more to read in the version of the blob that the last one sees."""
    name, has_begun, changes, more = task.announcement.blob, False, 0, True
    task = replace(task, allowance=allowance(task.announcement.size, None, most))
    while more:
        step = read(task)
        if step.skipped is Skip.CHANGED:
            changes += 1
            if changes == MOST_CHANGES:
                raise _restless(name)
            continue
        if step.skipped is Skip.VANISHED or step.ended is GenerationEnd.VANISHED:
            raise BlobtideError(f"{name} was deleted while it was read")
        if step.ended is GenerationEnd.REPLACED and has_begun:
            raise BlobtideError(f"{name} was overwritten while it was read; what was written of it is of its earlier content")
        granted = step.wanted or allowance(task.announcement.size, step.checkpoint, most)
        task = replace(task, checkpoint=step.checkpoint or task.checkpoint, allowance=granted)
        changes = 0 if step.checkpoint else changes
        more = step.more
        if step.ended is not GenerationEnd.REPLACED:  # ingest will report that the content it knows was replaced
            has_begun = has_begun or step.checkpoint is not None
            yield step


def _from_offset(read: Callable[[ReadingTask], Step], blob: OneBlob, seen: BlobCheckpoint) -> Iterator[Step]:
    """Read a blob that is not compressed; `seen` is a checkpoint from a moment ago, which tells the generation."""
    _refuse_end(blob, seen.size)
    announcement = replace(blob.announcement, baseline=blob.start, replay_id="")
    has_begun = False
    for step in _steps(read, ReadingTask(announcement, None, blob.stream, blob.most), blob.most):
        if step.checkpoint is not None and not has_begun:
            has_begun = True
            if step.checkpoint.seen_etag != seen.seen_etag:
                raise _Changed
        yield _named(step, seen.generation)


def _named(step: Step, generation: str) -> Step:
    """Return a step with the name that ingest has for the generation: it has a number if the blob was overwritten before."""
    segments = tuple(msgspec.structs.replace(segment, generation=generation) for segment in step.segments)
    letters = tuple(replace(letter, generation=generation) for letter in step.dead_letters)
    checkpoint = step.checkpoint and replace(step.checkpoint, generation=generation)
    return replace(step, segments=segments, dead_letters=letters, checkpoint=checkpoint)


def _without_lines_before(start: int, step: Step) -> Step:
    """Leave out the lines, and the dead letters about lines, that begin before the decoded offset `start`."""
    segments = tuple(part for segment in step.segments if (part := _part(segment, start)) is not None)
    letters = tuple(
        letter for letter in step.dead_letters if "encoding" not in letter.source or (letter.record_offset or 0) >= start
    )
    completion = step.completion
    if completion is not None:
        left_out = _lines(step.segments) - _lines(segments)
        completion = replace(completion, segments=len(segments), records=completion.records - left_out)
    return replace(step, segments=segments, dead_letters=letters, completion=completion)


def _part(segment: Segment, start: int) -> Segment | None:
    """Return the lines of a segment that begin at `start` or behind it; None if there are none."""
    if segment.start >= start:
        return segment
    # A line begins at `start` itself if the byte before it is a newline.
    begin = segment.data.find(_NEWLINE, start - 1 - segment.start) + 1
    if begin in {0, len(segment.data)}:
        return None
    return msgspec.structs.replace(segment, start=segment.start + begin, data=segment.data[begin:])


def _lines(segments: Iterable[Segment]) -> int:
    return sum(segment.data.count(_NEWLINE) + (not segment.data.endswith(_NEWLINE)) for segment in segments)


def _refuse_gap(blob: OneBlob, seen: BlobCheckpoint) -> None:
    known = blob.known
    read = 0
    if known is not None and known.generation == seen.generation:
        read = known.next_offset if known.decoded_offset is None else known.decoded_offset
    if blob.start > read and not blob.leaves_gap:
        raise ConfigError(
            f"ingest has read {blob.announcement.blob} only up to offset {read}; destinations that remember one position per "
            f"blob would take what lies between {read} and {blob.start} for delivered. Give a --start-offset of at most "
            f"{read}, or --leave-gap if nobody wants these lines"
        )


def _refuse_end(blob: OneBlob, end: int) -> None:
    if blob.start > end:
        raise ConfigError(f"--start-offset {blob.start} lies behind the end of {blob.announcement.blob}, which is at {end}")


def _restless(name: BlobId) -> BlobtideError:
    return BlobtideError(f"{name} changes every time it is read; try again later")
