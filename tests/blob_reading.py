"""Drive `BlobReader` over a `FakeContainer` as the service does, and keep what comes out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from libs.common.messages.blobs import BlobId
from libs.common.messages.dead_letters import DeadLetter
from libs.common.messages.events import BlobCheckpoint, BlobCompletion, Stream
from libs.common.messages.segments import Segment
from services.ingest.cutting.window import SizeLimits
from services.ingest.reading.decoders import Decoders
from services.ingest.reading.reader import BlobReader
from services.ingest.work import Announcement, ReadingTask, Skip, Step
from tests.blob_container import FakeContainer

NAME = "a/PT1H.json"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LIMITS = SizeLimits(segment=900_000, line=1_048_576, record=16_777_216)


@dataclass
class Desk:
    """One blob, its reader, and everything that was published of it."""

    container: FakeContainer = field(default_factory=FakeContainer)
    limits: SizeLimits = LIMITS
    allowance: int = 4_194_304
    stream: Stream = Stream.FLOW_LOGS
    name: str = NAME
    checkpoint: BlobCheckpoint | None = None
    segments: list[Segment] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    completions: list[BlobCompletion] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    steps: int = 0
    wanted: int = 0
    decoders: Decoders = field(default_factory=lambda: Decoders(0))  # keeps none: each step is as after a restart

    def announce(self, *, closed: bool = False, **more: Any) -> Announcement:
        """Announce the blob as it is now."""
        blob = self.container.blobs[self.name]
        known = Announcement(
            BlobId("s.e", "logs", self.name),
            blob.etag,
            len(blob.data),
            stream=self.stream,
            blob_type=blob.kind,
            creation_time=blob.created,
            creation_etag=blob.etag,
            closed=closed,
        )
        return replace(known, **more)

    def read(self, announcement: Announcement | None = None, *, closed: bool = False, **more: Any) -> list[Step]:
        """Read until there is nothing more to do."""
        announcement = announcement or self.announce(closed=closed, **more)
        steps: list[Step] = []
        while not steps or steps[-1].more:
            steps.append(self.step(announcement))
            assert len(steps) < 10_000, "the reader loops"
        return steps

    def step(self, announcement: Announcement) -> Step:
        """Do one step and keep its outcome."""
        task = ReadingTask(announcement, self.checkpoint, self.stream, self.wanted or self.allowance)
        step = BlobReader(lambda _: self.limits, self.decoders, clock=lambda: NOW).step(self.container, task)
        self.wanted = step.wanted
        self.checkpoint = step.checkpoint or self.checkpoint
        self.segments += step.segments
        self.dead_letters += step.dead_letters
        self.completions += [step.completion] if step.completion else []
        self.skipped += [step.skipped] if step.skipped else []
        self.steps += 1
        return step

    @property
    def text(self) -> bytes:
        """Return the published bytes of the current generation, joined."""
        generation = self.checkpoint.generation if self.checkpoint else ""
        return b"".join(s.data for s in self.segments if s.generation == generation)


def records_of(segments: list[Segment]) -> list[tuple[int, object]]:
    """Return offset and value of every record in segments of an envelope, pieces joined again."""
    found: list[tuple[int, object]] = []
    for segment in segments:
        text = segment.data.decode("latin-1")
        position = text.index("[") + 1 if '"records"' in text[:60] and segment.start == 0 else 0
        while (position := _skip(text, position)) < len(text):
            value, end = json.JSONDecoder().raw_decode(text, position)
            if segment.piece and segment.piece.number:
                _join(found[-1][1], value, segment.piece.first_tuple)
            else:
                found.append((segment.start + position, value))
            position = end
    return found


def tuples_of(record: object) -> list[object]:
    """Return all flow tuples of a record in document order."""
    if isinstance(record, dict):
        return [t for k, v in record.items() for t in (v if k == "flowTuples" else tuples_of(v))]
    return [t for v in record for t in tuples_of(v)] if isinstance(record, list) else []


def assert_tiles(segments: list[Segment]) -> None:
    """Check that ranges follow each other without gaps, ordinals too, and that values are as long as ranges."""
    end = segments[0].start if segments else 0
    for ordinal, segment in enumerate(segments):
        assert segment.ordinal == ordinal
        if segment.piece and segment.piece.number:
            assert (segment.start, segment.end) == (segments[ordinal - 1].start, segments[ordinal - 1].end)
        else:
            assert segment.start == end
        if segment.piece is None:
            assert len(segment.data) == segment.end - segment.start
        end = segment.end


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in ", \t\r\n":
        position += 1
    return position


def _join(whole: object, part: object, first: int) -> None:
    """Add the tuples of a piece to the record that earlier pieces gave, array by array."""
    assert len(tuples_of(whole)) == first
    _graft(whole, part)


def _graft(whole: object, part: object) -> None:
    if isinstance(whole, list) and isinstance(part, list):
        assert len(whole) == len(part)
        for old, new in zip(whole, part, strict=True):
            _graft(old, new)
    elif isinstance(whole, dict) and isinstance(part, dict):
        for key, value in part.items():
            if key == "flowTuples":
                whole[key] += value
            else:
                _graft(whole[key], value)
