"""Find out whether a blob is still the one to which its checkpoint belongs, where only its bytes can tell.

If a blob has only grown, the bytes before the cursor are read together with the new ones, which costs no extra request. Only a
blob that was rewritten as a whole is read again, from where the checkpoint's checksum begins: in the same request as the new
bytes if a step may read that much, otherwise beforehand, in parts of which only one is in memory at a time.
"""

from __future__ import annotations

from dataclasses import replace
from zlib import crc32

from libs.common.azure.storage.api import BlobChanged
from libs.common.messages.events import BlobCheckpoint
from services.ingest.reading.cursor import Cursor, Visit
from services.ingest.reading.generation import Evidence, bytes_before, evidence, same_end


class Replaced(Exception):
    """The checkpoint belongs to a blob that was replaced."""


class TooNarrow(Exception):
    """To continue, this many bytes must be read at once."""

    def __init__(self, wanted: int) -> None:
        super().__init__(wanted)
        self.wanted = wanted


def resume(visit: Visit, checkpoint: BlobCheckpoint, affordable: int) -> Cursor:
    """Return where to continue. To compare a whole blob, `affordable` bytes are read at once.

    Raises:
        Replaced: the content is different.
        TooNarrow: the task allows too few bytes for a comparison.
    """
    cursor = Cursor.of(checkpoint)
    match evidence(checkpoint, visit.version, affordable):
        case Evidence.REFUTED:
            raise Replaced
        case Evidence.CONTENT:
            cursor = _comparing(visit, cursor, affordable)
        case Evidence.END:
            pass
    if not visit.task.wants_replay:
        return cursor
    check(visit, cursor, read(visit, cursor, cursor.offset - cursor.look_back, cursor.offset))
    return Cursor(offset=0, generation=cursor.generation, previous=cursor.previous)


def check(visit: Visit, cursor: Cursor, data: bytes) -> None:
    """Compare the bytes before the cursor, with which `data` begins. Raises `Replaced`."""
    checkpoint = visit.task.checkpoint
    if checkpoint is None or not cursor.offset:
        return
    below = memoryview(data)[: cursor.look_back]
    if cursor.compare_from is not None and crc32(below[-(cursor.offset - cursor.compare_from) :]) != checkpoint.checksum:
        raise Replaced
    if not same_end(checkpoint, below):
        raise Replaced


def read(visit: Visit, cursor: Cursor, start: int, end: int) -> bytes:
    """Return bytes of the version, or of a later one if that makes no difference.

    A busy append blob grows between any look and read, but the bytes that it already has do not change. So they are read
    without the ETag if one read contains all that is needed to recognise another blob: the bytes before the cursor, or a
    beginning that has no name yet. A closed blob must not change at all.
    """
    try:
        return visit.read(start, end)
    except BlobChanged:
        checkpoint = visit.task.checkpoint
        is_compared = checkpoint is not None and cursor.offset and bytes_before(checkpoint)
        known_by_itself = is_compared or not (cursor.offset or cursor.generation)
        if not visit.version.appended or visit.closing or not known_by_itself:
            raise
    name = visit.task.announcement.blob.name
    data = visit.container.read(name, start, end, "")
    now = visit.container.info(name)
    if now.creation_time != visit.version.creation_time or now.size < visit.version.size:
        raise BlobChanged("it was replaced while being read")
    return data


def _comparing(visit: Visit, cursor: Cursor, affordable: int) -> Cursor:
    """Return a cursor that compares along with the next read, or compare now."""
    allowance, begin = visit.task.allowance, cursor.checksum_from
    if visit.version.size - begin <= allowance:
        return replace(cursor, compare_from=begin)
    if allowance < (wanted := min(cursor.offset - begin, affordable)):
        raise TooNarrow(wanted)
    found = 0
    for start in range(begin, cursor.offset, allowance):
        found = crc32(read(visit, cursor, start, min(start + allowance, cursor.offset)), found)
    if found != cursor.checksum:
        raise Replaced
    return cursor
