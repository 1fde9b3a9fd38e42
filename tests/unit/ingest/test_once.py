"""Reading one blob once: the segments of ingest, from an offset, with the identities that ingest has given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from libs.common.errors import BlobtideError, ConfigError
from libs.common.messages.events import BlobCheckpoint, Stream
from libs.common.messages.segments import Segment
from services.ingest.once import OneBlob, read_once
from services.ingest.reading.decoders import Decoders
from services.ingest.reading.reader import BlobReader
from services.ingest.work import Step
from tests.blob_container import FakeContainer
from tests.blob_reading import LIMITS, NAME, NOW, Desk
from tests.packed import gzip_member, zstd_frame

TEXT = b"".join(b"line %d%s\n" % (number, b"x" * (number % 60)) for number in range(20_000))
HALF = len(TEXT) // 2
FORMS = {
    "plain": TEXT,
    "gzip": gzip_member(TEXT[:HALF], 6, (1_000,)) + gzip_member(TEXT[HALF:]),
    "zstd": zstd_frame(TEXT[:HALF]) + zstd_frame(TEXT[HALF:]),
}


@dataclass
class Scene:
    """A blob that ingest has read, or not."""

    desk: Desk = field(default_factory=lambda: Desk(stream=Stream.APPLICATION_LOGS))

    @property
    def container(self) -> FakeContainer:
        """Return the container."""
        return self.desk.container

    def once(self, start: int = 0, known: BlobCheckpoint | None = None, *, closed: bool = False, **more: Any) -> list[Step]:
        """Read the blob once."""
        reader = BlobReader(lambda _: LIMITS, Decoders(1_000_000), clock=lambda: NOW)
        announced = self.desk.announce(closed=closed)
        blob = OneBlob(announced, known, Stream.APPLICATION_LOGS, self.desk.allowance, start, **more)
        return list(read_once(lambda task: reader.step(self.container, task), blob))


def segments_of(steps: list[Step]) -> list[Segment]:
    """Return all segments."""
    return [segment for step in steps for segment in step.segments]


def text_of(steps: list[Step]) -> bytes:
    """Return the text that was read."""
    return b"".join(segment.data for segment in segments_of(steps))


def lines_of(steps: list[Step]) -> int:
    """Return how many lines the steps say they have."""
    return sum(step.completion.records for step in steps if step.completion)


@pytest.fixture
def scene() -> Scene:
    """An empty container."""
    return Scene()


@pytest.mark.parametrize("form", FORMS)
def test_a_blob_is_read_into_the_segments_of_ingest(scene: Scene, form: str) -> None:
    """With the same generation, ordinals and positions, whether ingest has read it or not."""
    scene.container.put(NAME, FORMS[form])
    scene.desk.allowance = 70_000
    fresh = segments_of(scene.once(closed=True))
    scene.desk.read(closed=True)
    assert [(s.start, s.end) for s in fresh] == [(s.start, s.end) for s in segments_of(scene.once(known=scene.desk.checkpoint))]
    assert b"".join(s.data for s in fresh) == TEXT
    assert {s.generation for s in fresh} == {scene.desk.segments[0].generation}
    assert [s.ordinal for s in fresh] == list(range(len(fresh)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("start", [1, HALF - 3, HALF, TEXT.index(b"line 9000"), len(TEXT) - 1, len(TEXT)])
def test_reading_begins_with_the_first_line_at_an_offset(scene: Scene, form: str, start: int) -> None:
    """Offsets count the text of a compressed blob; lines are counted that are written, and each has the position it has."""
    scene.container.put(NAME, FORMS[form])
    scene.desk.read(closed=True)
    steps = scene.once(start, scene.desk.checkpoint, closed=True)
    begin = TEXT.find(b"\n", start - 1) + 1
    assert text_of(steps) == TEXT[begin:]
    assert lines_of(steps) == TEXT.count(b"\n", begin)
    assert [s.start for s in segments_of(steps)][:1] == ([begin] if begin < len(TEXT) else [])
    assert {s.generation for s in segments_of(steps)} <= {scene.desk.segments[0].generation}


@pytest.mark.parametrize("form", FORMS)
def test_an_overwritten_blob_has_the_generation_that_ingest_gave_it(scene: Scene, form: str) -> None:
    """It has a number, which the blob alone does not tell; also if ingest has not seen yet that it was overwritten."""
    scene.container.put(NAME, FORMS["plain"].replace(b"line 7x", b"LINE 7x"))
    scene.desk.read()
    first = scene.desk.checkpoint
    scene.container.put(NAME, FORMS[form])
    before = segments_of(scene.once(known=first))
    scene.desk.read()
    assert scene.desk.checkpoint is not None
    name = scene.desk.checkpoint.generation
    assert name.endswith(".2")
    after = segments_of(scene.once(HALF, scene.desk.checkpoint))
    assert {s.generation for s in (*before, *after)} == {name}
    assert text_of(scene.once(known=first)) == TEXT
    assert not any(step.dead_letters for step in scene.once(known=first))  # that it was overwritten is for ingest to report


@pytest.mark.parametrize("form", FORMS)
def test_a_gap_behind_what_ingest_has_read_is_refused_unless_it_is_wanted(scene: Scene, form: str) -> None:
    """Destinations that remember one position per blob would lose what is in it."""
    scene.container.put(NAME, FORMS[form])
    with pytest.raises(ConfigError, match=r"only up to offset 0;.*at most 0, or --leave-gap"):
        scene.once(HALF)
    assert len(text_of(scene.once(HALF, leaves_gap=True))) == len(TEXT) - TEXT.find(b"\n", HALF - 1) - 1


@pytest.mark.parametrize("form", FORMS)
def test_an_offset_behind_the_end_is_refused(scene: Scene, form: str) -> None:
    """The message says where the end is."""
    scene.container.put(NAME, FORMS[form])
    with pytest.raises(ConfigError, match=f"lies behind the end of s.e/logs/{NAME}, which is at {len(TEXT)}"):
        scene.once(len(TEXT) + 1, leaves_gap=True)


@pytest.mark.parametrize("form", FORMS)
def test_the_last_line_waits_for_its_end_unless_the_blob_is_closed(scene: Scene, form: str) -> None:
    """As with ingest, which would otherwise publish another line at the same position later."""
    pack: dict[str, Callable[[bytes], bytes]] = {"plain": bytes, "gzip": gzip_member, "zstd": zstd_frame}
    scene.container.put(NAME, pack[form](b"one\ntwo"))
    steps = scene.once()
    assert text_of(steps) == b"one\n"
    assert [step.checkpoint.unread for step in steps if step.checkpoint] == [1]
    assert text_of(scene.once(closed=True)) == b"one\ntwo"


def test_documents_begin_with_the_block_that_contains_the_offset(scene: Scene) -> None:
    """Records are whole."""
    blocks = [("h", b'{"records":['), ("a", b'{"a":1}'), ("b", b',{"b":2}'), ("c", b',{"c":3}'), ("t", b"]}")]
    scene.container.commit(NAME, blocks)
    scene.desk.read(closed=True)
    assert text_of(scene.once(24, scene.desk.checkpoint)) == b',{"b":2},{"c":3}'


def test_a_blob_that_changes_while_it_is_read_ends_the_command(scene: Scene) -> None:
    """By a message that says what happened: it was overwritten, deleted, or never stands still."""
    scene.desk.allowance = 70_000

    def overwrite(request: str) -> None:
        if request == "block_list" and scene.container.bytes_read > 500_000:
            scene.container.put(NAME, TEXT[::-1])

    def remove(request: str) -> None:
        if request == "read" and scene.container.bytes_read > 500_000:
            scene.container.blobs.clear()

    def touch(request: str) -> None:
        if request == "read":
            scene.container.touch(NAME)

    for change, message in ((overwrite, "was overwritten"), (remove, "was deleted"), (touch, "changes every time")):
        scene.container.put(NAME, TEXT)
        scene.container.bytes_read = 0
        scene.container.before = change
        with pytest.raises(BlobtideError, match=message):
            scene.once()
        scene.container.before = lambda _: None


def test_what_ingest_cannot_read_is_refused_for_the_same_reasons(scene: Scene) -> None:
    """Dead letters are those of ingest; those about lines before the offset are left out."""
    long_line = b"x" * (LIMITS.line + 5) + b"\n"
    scene.container.put(NAME, gzip_member(b"one\n" + long_line + b"two\n") + b"rubbish")
    scene.desk.read(closed=True)
    steps = scene.once(closed=True)
    assert [letter for step in steps for letter in step.dead_letters] == scene.desk.dead_letters
    later = scene.once(5, scene.desk.checkpoint, closed=True)
    assert [letter.code.value for step in later for letter in step.dead_letters] == ["trailing_bytes"]
