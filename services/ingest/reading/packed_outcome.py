"""Turn the result of reading a compressed blob into a `Step`. Pure.

Offsets of segments, and of dead letters with the source ``encoding``, count decoded bytes. Dead letters about the compressed
bytes themselves have offsets in the blob.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.messages.events import BlobCheckpoint, BlobCompletion, CheckpointStatus
from libs.common.unpacking.unpacker import MOST_RATIO
from services.ingest.cutting.window import Bad, by_reference, with_bytes
from services.ingest.reading.content import Content
from services.ingest.reading.cursor import Cursor, PackedPlace, Visit
from services.ingest.reading.outcome import checkpoint_at, completion_of, dead_letter_of, segments_of
from services.ingest.reading.packed_lines import LINES, Ending, PackedReading
from services.ingest.work import GenerationEnd, Skip, Step


def published(reading: PackedReading) -> Step:
    """Publish the complete lines, move the checkpoint, and report what cannot be read."""
    visit, cursor, ending = reading.decoded.visit, reading.decoded.cursor, reading.ending
    encoding, cuts = reading.place.packing.value, reading.progress.cuts
    segments = segments_of(visit.task, reading.generation, cursor.ordinal, cuts, encoding)
    checkpoint = _checkpoint(reading, len(segments), sum(cut.records for cut in cuts))
    bad = [dead_letter_of(visit.task, reading.generation, item, encoding) for item in reading.progress.bad]
    return Step(
        segments,
        (*bad, *_letters(reading)),
        _completion(reading, checkpoint),
        checkpoint,
        more=ending is Ending.MORE,
        skipped=Skip.UNSUPPORTED if ending is Ending.UNSUPPORTED else None,
        ended=GenerationEnd.CUT if ending is Ending.CUT else GenerationEnd.UNREADABLE if ending.gives_up else None,
    )


def given_up_again(visit: Visit, cursor: Cursor, data: memoryview) -> Step:
    """Record that another version of a blob was seen that was given up, and still begins with what was read; nothing else."""
    known = visit.task.checkpoint
    if known is None:
        raise AssertionError("it was given up")
    seen = checkpoint_at(visit, cursor, data[: cursor.look_back])
    checkpoint = replace(
        known,
        etag=visit.version.etag,
        seen_etag=seen.seen_etag,
        size=seen.size,
        blocks=seen.blocks,
        digest=seen.digest,
        creation_time=seen.creation_time,
        updated_at=seen.updated_at,
        replay_id=seen.replay_id,
    )
    return Step(checkpoint=checkpoint, skipped=Skip.UNSUPPORTED)


def place_in(checkpoint: BlobCheckpoint, place: PackedPlace, end: int) -> BlobCheckpoint:
    """Return the checkpoint of a blob that was read up to `end` and continues at `place`."""
    return replace(
        checkpoint,
        encoding=place.packing.value,
        read_offset=end,
        next_offset=place.start.packed,
        decoded_start=place.start.decoded,
        decoded_offset=place.text,
    )


def _checkpoint(reading: PackedReading, segments: int, found: int) -> BlobCheckpoint:
    decoded, ending = reading.decoded, reading.ending
    is_unread = reading.progress.skip_from is not None or bool(decoded.decoding.text.strip())
    checkpoint = replace(
        checkpoint_at(decoded.visit, decoded.cursor, decoded.used),
        generation=reading.generation,
        status=ending.status,
        ordinal=decoded.cursor.ordinal + segments,
        records=decoded.cursor.records + found,
        etag="" if ending is Ending.MORE else decoded.visit.version.etag,
        content=(Content.GIVEN_UP if ending.gives_up else reading.content).value,
        skip_from=reading.progress.skip_from,
        unread=None if ending is Ending.MORE else int(is_unread),
    )
    return place_in(checkpoint, reading.place, decoded.end)


def _completion(reading: PackedReading, checkpoint: BlobCheckpoint) -> BlobCompletion | None:
    cursor = reading.decoded.cursor
    text = cursor.packed.text if cursor.packed else 0
    stands = (checkpoint.read_to, checkpoint.decoded_offset) == (cursor.offset, text)
    if stands and checkpoint.status is CheckpointStatus.OPEN:
        return None
    segments, found = checkpoint.ordinal - cursor.ordinal, checkpoint.records - cursor.records
    return replace(completion_of(checkpoint, cursor.offset, segments, found), decoded_from=text)


def _letters(reading: PackedReading) -> Iterator[DeadLetter]:
    """Report what is wrong, and the text before it that is not published because its line has no end."""
    task, generation = reading.decoded.visit.task, reading.generation
    if reading.ending.status is CheckpointStatus.INCOMPLETE and reading.content in LINES:
        for item in _unpublished(reading):
            yield dead_letter_of(task, generation, item, reading.place.packing.value)
    wrong = _wrong(reading)
    if wrong is not None:
        yield dead_letter_of(task, generation, wrong)


def _unpublished(reading: PackedReading) -> tuple[Bad, ...]:
    place, skip_from, text = reading.place, reading.progress.skip_from, reading.decoded.decoding.text
    what = f"incomplete last line of {place.packing} data that is truncated or not read any further"
    if skip_from is not None:
        return (by_reference(skip_from, place.text, reading.decoded.decoding.head, ErrorCode.TOO_LARGE, what),)
    if len(text) > reading.limits.line:
        return (by_reference(place.text, place.text + len(text), text, ErrorCode.TOO_LARGE, what),)
    bad = with_bytes(place.text, text, reading.limits.segment, what)
    return tuple(replace(item, code=ErrorCode.CUT_FILE) for item in bad)


def _wrong(reading: PackedReading) -> Bad | None:
    decoded, name = reading.decoded, reading.place.packing
    code = ErrorCode.CUT_FILE
    match reading.ending:
        case Ending.TRAILED:
            code, what = ErrorCode.TRAILING_BYTES, f"what follows a complete {name} member is not {name}"
        case Ending.CUT:
            what = f"{name} member truncated at the end of the blob"
        case Ending.DAMAGED:
            what = f"{name} data damaged ({decoded.done.reason}); the blob is not read any further"
        case Ending.BOMB:
            code = ErrorCode.TOO_LARGE
            what = f"{name} data expands to over {MOST_RATIO} times its size, as no log does; the blob is not read any further"
        case Ending.UNSUPPORTED:
            code, what = ErrorCode.UNSUPPORTED_BLOB, f"{decoded.done.reason}; the blob is not read any further"
            if reading.content not in LINES:
                what = f"{name} data that does not contain lines ({reading.content}) is not supported"
        case _:
            return None
    return by_reference(reading.wrong_from, decoded.visit.version.size, reading.excerpt, code, what)
