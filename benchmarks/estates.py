"""The two estates: many tuples from few interfaces, and few tuples from many; with their blobs and ingest's segments of them.

Segments are cut by ingest's own code, with one read per minute and blob, as when following blobs while they grow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Final

from libs.common.kafka.topics.topic_specs import load_topic_specs
from libs.common.messages.blobs import BlobId, partition_of
from libs.common.messages.segments import Segment
from libs.common.settings.ingest import IngestSettings
from libs.common.settings.parser import ParserSettings
from libs.demo.commits import Action, MinuteCommit, NewBlock
from libs.demo.estate import Estate
from libs.demo.spec import EstateSpec, LogKind
from services.ingest.cutting.whole_records import advance
from services.ingest.cutting.window import SizeLimits, Window
from services.ingest.limits import MOST_RECORD_BYTES
from services.parser.app import portions

SUBSCRIPTION: Final = "bench"
ENVIRONMENT: Final = "local"
_BUSY_TUPLES: Final = 8_000
_QUIET_TUPLES: Final = 28


@dataclass(frozen=True, slots=True)
class FlowBlob:
    """One blob in its final state: its blocks in order."""

    id: BlobId
    blocks: tuple[NewBlock, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(len(block.data) for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Piece:
    """Segments that are parsed together, with the partition of each."""

    segments: tuple[Segment, ...]
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Data:
    """The logs of an estate.

    Attributes:
        name: such as ``busy`` or ``quiet``.
        segments: in the order in which ingest writes them.
        tuples: number of tuples, or of lines.
    """

    name: str
    blobs: tuple[FlowBlob, ...]
    segments: tuple[Segment, ...]
    tuples: int

    @property
    def segment_bytes(self) -> int:
        """Bytes of all segments."""
        return sum(len(segment.data) for segment in self.segments)

    @property
    def blob_bytes(self) -> int:
        """Bytes of all blobs."""
        return sum(blob.size for blob in self.blobs)

    def portions(self) -> Iterator[Piece]:
        """Yield the pieces parsed at once while the parser catches up: a poll's segments by partition, a few megabytes."""
        limits = ParserSettings()
        poll: list[Segment] = []
        size = 0
        for segment in self.segments:
            poll.append(segment)
            size += len(segment.data)
            if size >= limits.poll_bytes or len(poll) >= limits.poll_messages:
                yield from _cut(poll)
                poll, size = [], 0
        yield from _cut(poll)


def busy(minutes: int) -> Data:
    """Return the logs of 20 interfaces with 8,000 tuples per minute each."""
    return _data("busy", EstateSpec(seed=1, nics=20, tuples_per_minute=_BUSY_TUPLES, minutes=minutes))


def quiet(minutes: int, nics: int = 5_000) -> Data:
    """Return the logs of many interfaces with 28 tuples per minute each."""
    return _data("quiet", EstateSpec(seed=2, nics=nics, tuples_per_minute=_QUIET_TUPLES, minutes=minutes))


def _cut(poll: list[Segment]) -> Iterator[Piece]:
    count = next(spec.partitions for spec in load_topic_specs() if spec.field == "raw_flow_logs")
    placed = sorted(((partition_of(segment.blob.encode(), count), segment) for segment in poll), key=itemgetter(0))
    for piece in portions([(partition, len(segment.data)) for partition, segment in placed]):
        partitions, segments = zip(*placed[piece], strict=True)
        yield Piece(segments, partitions)


def _data(name: str, spec: EstateSpec) -> Data:
    spec = replace(spec, kinds=(LogKind.VNET,), account=f"{SUBSCRIPTION}.{ENVIRONMENT}")
    growing: dict[BlobId, _Growing] = {}
    segments: list[Segment] = []
    tuples = 0
    for commit in Estate(spec).commits():
        blob = growing.setdefault(commit.blob, _Growing(commit.blob))
        segments += blob.grow(commit)
        tuples += len(commit.rows)
    return Data(name, tuple(blob.done() for blob in growing.values()), tuple(segments), tuples)


_LIMITS = SizeLimits(IngestSettings().segment_bytes, IngestSettings().max_line_bytes, MOST_RECORD_BYTES)


class _Growing:
    """A blob, and how far it has been cut into segments."""

    def __init__(self, blob: BlobId) -> None:
        self._blob = blob
        self._blocks: dict[str, NewBlock] = {}
        self._order: tuple[str, ...] = ()
        self._offset = 0
        self._ordinal = 0

    def grow(self, commit: MinuteCommit) -> Iterator[Segment]:
        """Apply a commit; yield the segments of a read after it."""
        self._blocks.update((block.id, block) for block in commit.staged)
        self._order = commit.block_ids
        if commit.action not in {Action.APPEND, Action.FINISH}:
            return
        head, tail = self._blocks[self._order[0]].data, self._blocks[self._order[-1]].data
        new = b"".join(block.data for block in commit.staged) + tail
        data = new if self._offset else head + new
        window = Window(data, self._offset, self._offset + len(data), closing=False, widest=False)
        progress = advance(window, _LIMITS)
        for cut in progress.cuts:
            yield Segment(str(self._blob), "first", cut.start, cut.end, self._ordinal, cut.format, cut.data)
            self._ordinal += 1
        self._offset = progress.next_offset

    def done(self) -> FlowBlob:
        """Return the blob in its final state."""
        return FlowBlob(self._blob, tuple(self._blocks[block_id] for block_id in self._order))
