"""Turn the result of reading a blob into a `Step`: segments, dead letters, checkpoint, completion. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from zlib import crc32

from libs.common.framing.frame import blank_end, ends_document
from libs.common.messages.dead_letters import OMITTED_BYTES, DeadLetter, ErrorCode
from libs.common.messages.events import BlobCheckpoint, BlobCompletion, CheckpointStatus
from libs.common.messages.segments import RecordPiece, Segment
from services.ingest.cutting.window import Bad, Cut, Outlook, Progress
from services.ingest.reading.content import Content
from services.ingest.reading.cursor import Cursor, Visit
from services.ingest.reading.generation import identify, name_generation
from services.ingest.work import GenerationEnd, ReadingTask, Skip, Step

STAGE = "ingest"


@dataclass(frozen=True, slots=True)
class BlobReading:
    """What one step has read: `data` begins `cursor.look_back` bytes before the cursor and ends with the window."""

    visit: Visit
    cursor: Cursor
    content: Content
    data: bytes
    progress: Progress


def published(reading: BlobReading) -> Step:
    """Publish the cut segments and move the checkpoint."""
    visit, cursor, progress = reading.visit, reading.cursor, reading.progress
    generation = cursor.generation or _name(reading)
    done = progress.outlook is Outlook.DONE
    if not generation:
        return Step(skipped=Skip.EMPTY if done and visit.closing else None, more=not done)
    segments = segments_of(visit.task, generation, cursor.ordinal, progress.cuts)
    found = sum(cut.records for cut in progress.cuts)
    status = CheckpointStatus.COMPLETE if done and visit.closing else CheckpointStatus.OPEN
    consumed = progress.next_offset - cursor.offset + cursor.look_back
    checkpoint = replace(
        checkpoint_at(visit, cursor, memoryview(reading.data)[:consumed]),
        generation=generation,
        status=status,
        ordinal=cursor.ordinal + len(segments),
        records=cursor.records + found,
        etag=visit.version.etag if done else "",
        content=reading.content.value,
        skip_from=progress.skip_from,
        unread=_unread(reading, consumed) if done else None,
    )
    completion = None
    if progress.next_offset > cursor.offset or status is CheckpointStatus.COMPLETE:
        completion = completion_of(checkpoint, cursor.offset, len(segments), found)
    bad = tuple(dead_letter_of(visit.task, generation, item) for item in progress.bad)
    return Step(segments, bad, completion, checkpoint, more=not done)


def checkpoint_at(visit: Visit, cursor: Cursor, below: memoryview) -> BlobCheckpoint:
    """Return a checkpoint with all that follows from the bytes that were read; nothing is published, and more remains.

    `below` begins `cursor.look_back` bytes before the cursor and ends where reading will continue.
    """
    offset = cursor.offset + len(below) - cursor.look_back
    identity = identify(visit.version, offset, below)
    return BlobCheckpoint(
        blob=str(visit.task.announcement.blob),
        generation=cursor.generation,
        status=CheckpointStatus.OPEN,
        next_offset=offset,
        ordinal=cursor.ordinal,
        records=cursor.records,
        etag="",
        size=visit.version.size,
        blocks=identity.blocks,
        digest=identity.digest,
        creation_time=visit.version.creation_time,
        updated_at=visit.now,
        replay_id=_replay_id(visit.task),
        stream=visit.task.stream,
        seen_etag=visit.version.etag,
        before=identity.before,
        checksum=crc32(below[cursor.look_back :], cursor.checksum or 0),
        checksum_from=cursor.offset if cursor.checksum is None else cursor.checksum_from,
    )


def unreadable(task: ReadingTask, reason: str) -> Step:
    """Report an unreadable blob by reference, once per announcement of its content."""
    letters = (_letter(task, ErrorCode.UNSUPPORTED_BLOB, reason),) if task.announcement.blob_type else ()
    return Step((), letters, skipped=Skip.UNREADABLE)


def quarantined(task: ReadingTask, reason: str, marked: BlobCheckpoint) -> Step:
    """Report the unread part of a blob that crashes our code by reference; `marked` is its quarantined checkpoint."""
    unread = max(0, task.announcement.size - marked.read_to)
    letter = replace(
        _letter(task, ErrorCode.QUARANTINED, f"not read any further until released: {reason}"),
        generation=marked.generation or None,
        record_offset=marked.read_to,
        source={"length": str(unread), OMITTED_BYTES: str(unread)},
    )
    return Step((), (letter,), checkpoint=marked, skipped=Skip.QUARANTINED)


def given_up(task: ReadingTask, reason: str) -> Step:
    """Report a blob that storage keeps refusing by reference; its checkpoint stays, so that a later announcement continues."""
    known = task.checkpoint
    letter = _letter(task, ErrorCode.INCOMPLETE_BLOB, f"given up because storage keeps refusing it: {reason}")
    if known is not None:
        letter = replace(letter, generation=known.generation, record_offset=known.read_to)
    return Step((), (letter,), skipped=Skip.UNREADABLE)


def vanished(task: ReadingTask, now: datetime) -> Step:
    """Report what was lost of a deleted blob: the unread part of its open generation, or all of it."""
    if task.checkpoint is not None or task.announcement.size <= (task.announcement.baseline or 0):
        return ended(task, GenerationEnd.VANISHED, now) or Step(skipped=Skip.VANISHED)
    reason = f"deleted before any of its {task.announcement.size} bytes were read"
    return Step((), (_letter(task, ErrorCode.INCOMPLETE_BLOB, reason),), skipped=Skip.VANISHED)


def ended(task: ReadingTask, ending: GenerationEnd, now: datetime) -> Step | None:
    """Close the generation of the checkpoint as incomplete; None if it had already ended."""
    checkpoint = task.checkpoint
    if checkpoint is None or checkpoint.status is not CheckpointStatus.OPEN:
        return None
    reason = f"{ending.value} before it was closed: {_how_far(checkpoint)}"
    letter = replace(
        _letter(task, ErrorCode.INCOMPLETE_BLOB, reason),
        generation=checkpoint.generation,
        record_offset=checkpoint.read_to,
    )
    closed = replace(checkpoint, status=CheckpointStatus.INCOMPLETE, etag="", updated_at=now)
    completion = replace(completion_of(closed, closed.read_to, 0, 0), decoded_from=closed.decoded_offset)
    return Step((), (letter,), completion, closed, more=ending is GenerationEnd.REPLACED, ended=ending)


def _how_far(checkpoint: BlobCheckpoint) -> str:
    """Describe how much of a blob was read: in records, or in bytes if the content after the cursor is unknown."""
    match checkpoint.unread:
        case None:
            return f"{checkpoint.read_to} of {checkpoint.size} known bytes were read"
        case 0:
            return f"all {checkpoint.records} known records or lines were read"
        case unread:
            return f"{checkpoint.records} records or lines were read; {unread} was incomplete and was not"


def _unread(reading: BlobReading, consumed: int) -> int:
    """Count incomplete records after the cursor; a document's tail and white space do not count."""
    if reading.progress.skip_from is not None:
        return 1
    if reading.content is Content.ENVELOPE:
        return 0 if ends_document(reading.data, consumed) else 1
    return 0 if blank_end(reading.data, consumed) == len(reading.data) else 1


def _name(reading: BlobReading) -> str:
    """Name the generation, if its first record or line is known."""
    first = reading.progress.first
    if first is None:
        return ""
    begin, end = (reading.cursor.look_back + index for index in first)
    material = reading.data[begin:end]
    return name_generation(reading.visit.version, reading.cursor.offset + first[0], material, reading.cursor.previous)


def segments_of(
    task: ReadingTask, generation: str, ordinal: int, cuts: tuple[Cut, ...], encoding: str = ""
) -> tuple[Segment, ...]:
    """Return the segments of `cuts`, numbered from `ordinal` on."""
    return tuple(_segment(task, generation, ordinal + index, cut, encoding) for index, cut in enumerate(cuts))


def _segment(task: ReadingTask, generation: str, ordinal: int, cut: Cut, encoding: str) -> Segment:
    piece = RecordPiece(cut.piece, cut.count, cut.first_tuple) if cut.count else None
    blob, labels = str(task.announcement.blob), task.announcement.labels
    return Segment(blob, generation, cut.start, cut.end, ordinal, cut.format, cut.data, piece, labels, encoding)


def completion_of(checkpoint: BlobCheckpoint, begin: int, segments: int, found: int) -> BlobCompletion:
    """Return the completion of what was read from offset `begin` to the checkpoint."""
    return BlobCompletion(
        blob=checkpoint.blob,
        generation=checkpoint.generation,
        status=checkpoint.status,
        from_offset=begin,
        to_offset=checkpoint.read_to,
        segments=segments,
        records=found,
        completed_at=checkpoint.updated_at,
        decoded_to=checkpoint.decoded_offset,
    )


def dead_letter_of(task: ReadingTask, generation: str, bad: Bad, encoding: str = "") -> DeadLetter:
    """Return the dead letter of a range; with an `encoding`, its offsets count decoded bytes."""
    length = bad.end - bad.start
    omitted = {OMITTED_BYTES: str(length - len(bad.data))} if length > len(bad.data) else {}
    return DeadLetter(
        stage=STAGE,
        code=bad.code,
        reason=bad.reason,
        data=bad.data,
        key=task.announcement.blob.key,
        blob=str(task.announcement.blob),
        generation=generation,
        record_offset=bad.start,
        source={"length": str(length), **omitted, **({"encoding": encoding} if encoding else {})},
    )


def _letter(task: ReadingTask, code: ErrorCode, reason: str) -> DeadLetter:
    blob = task.announcement.blob
    return DeadLetter(STAGE, code, reason, b"", key=blob.key, blob=str(blob))


def _replay_id(task: ReadingTask) -> str:
    return task.announcement.replay_id or (task.checkpoint.replay_id if task.checkpoint else "")
