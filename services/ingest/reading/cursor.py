"""Where reading of a blob begins and continues."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime

from libs.common.azure.storage.api import Container
from libs.common.framing.lead import skip_lead
from libs.common.messages.events import BlobCheckpoint
from libs.common.unpacking.member import Packing
from libs.common.unpacking.unpacker import Boundary
from services.ingest.cutting import lines
from services.ingest.reading.content import PROBE_BYTES, Content, Sample, detect
from services.ingest.reading.generation import LOOK_BACK, Version, name_generation, predecessor
from services.ingest.work import ReadingTask


@dataclass(frozen=True, slots=True)
class Visit:
    """One look at one version of a blob."""

    container: Container
    task: ReadingTask
    version: Version
    now: datetime

    def read(self, begin: int, end: int) -> bytes:
        """Return bytes of this version. Raises like `Container.read`."""
        return self.container.read(self.task.announcement.blob.name, begin, end, self.version.etag)

    @property
    def closing(self) -> bool:
        """Whether this version was announced as the last one."""
        return self.task.announcement.closed and self.task.announcement.etag == self.version.etag

    def detect(self, data: bytes, end: int) -> Content | None:
        """Detect the content from the blob's first bytes, `data`, which end at offset `end`."""
        return detect(Sample(data, whole=self.closing and end == self.version.size, appended=self.version.appended))


@dataclass(frozen=True, slots=True)
class PackedPlace:
    """Where to continue in the text of a compressed blob: at the decoded offset `text`, by decoding again from `start`."""

    packing: Packing
    start: Boundary
    text: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where to continue reading."""

    offset: int  # of the next byte to read; all bytes below it were read
    ordinal: int = 0  # of the next segment
    records: int = 0
    generation: str = ""  # empty: not named yet
    previous: str = ""  # the generation that this one replaces
    content: Content | None = None  # None: not detected yet
    skip_from: int | None = None
    checksum: int | None = None  # of the bytes from `checksum_from` to `offset`; None: unknown
    checksum_from: int = 0
    compare_from: int | None = None  # bytes from here to `offset` are read again and compared with `checksum`
    packed: PackedPlace | None = None  # None: not compressed, or not known yet
    counted: int = 0  # bytes at the beginning of a compressed blob that count as read; they must be decoded nevertheless

    @property
    def look_back(self) -> int:
        """Number of bytes before `offset` that are read again along with the new ones."""
        compared = 0 if self.compare_from is None else self.offset - self.compare_from
        return max(min(LOOK_BACK, self.offset), compared)

    @classmethod
    def of(cls, checkpoint: BlobCheckpoint) -> Cursor:
        """Continue at `checkpoint`."""
        if checkpoint.content == Content.GZIP:  # from before gzip was supported: nothing was read
            return cls(offset=0, previous=predecessor(checkpoint.generation))
        return cls(
            offset=checkpoint.read_to,
            ordinal=checkpoint.ordinal,
            records=checkpoint.records,
            generation=checkpoint.generation,
            content=Content(checkpoint.content) if checkpoint.read_to else None,
            skip_from=checkpoint.skip_from,
            checksum=checkpoint.checksum,
            checksum_from=checkpoint.checksum_from,
            packed=_packed_place(checkpoint),
        )


def _packed_place(checkpoint: BlobCheckpoint) -> PackedPlace | None:
    if checkpoint.decoded_offset is None:
        return None
    start = Boundary(checkpoint.next_offset, checkpoint.decoded_start)
    return PackedPlace(Packing(checkpoint.encoding), start, checkpoint.decoded_offset)


def begin(visit: Visit) -> Cursor:
    """Return where to start a blob without a checkpoint: at the beginning, or after the part that counts as read."""
    baseline = visit.task.announcement.baseline or 0
    size = visit.version.size
    if baseline == 0 or size < baseline:
        return Cursor(offset=0)
    end = min(size, PROBE_BYTES)
    sample = visit.read(0, end)
    match visit.detect(sample, end):
        case Content.ENVELOPE:
            return _behind_blocks(visit.version, baseline, sample)
        case Content.LINES | Content.JSON_LINES as content:
            return _behind_lines(visit, baseline, sample, content)
        case Content.GZIP | Content.ZSTD:
            return Cursor(offset=size) if size == baseline else Cursor(offset=0, counted=baseline)
        case _:
            return Cursor(offset=0)


def _behind_blocks(version: Version, baseline: int, sample: bytes) -> Cursor:
    """Begin at the last block boundary at or below `baseline`, but never at the end of the blob, which is after the tail."""
    first = skip_lead(sample, 0).end
    ends = version.block_ends[:-1]
    index = bisect_right(ends, baseline)
    offset = ends[index - 1] if index else 0
    if not ends and version.size == baseline:
        return Cursor(offset=version.size)
    if offset <= first:
        return Cursor(offset=0)
    generation = name_generation(version, first, sample[first:], "")
    return Cursor(offset=offset, generation=generation, content=Content.ENVELOPE)


def _behind_lines(visit: Visit, baseline: int, sample: bytes, content: Content) -> Cursor:
    """Begin at the first line that starts at or after `baseline`; if there is none yet, at the end, without a name."""
    line = sample[: (lines.resync(sample) or len(sample))]
    position = baseline - 1
    while position < visit.version.size:
        end = min(visit.version.size, position + visit.task.allowance)
        found = lines.resync(visit.read(position, end))
        if found is not None:
            return Cursor(position + found, generation=name_generation(visit.version, 0, line, ""), content=content)
        position = end
    return Cursor(offset=visit.version.size, content=content)
