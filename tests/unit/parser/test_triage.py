"""A blob of which most is bad goes into quarantine by itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import msgspec
import pytest
from structlog.testing import capture_logs

from libs.common.errors import DeadLetterLimit, Retry, ServerUnreachable
from libs.common.kafka.records import Inbound, Outbound, TopicPartition
from libs.common.messages.events import BlobQuarantined, decode_event
from libs.common.messages.segments import Segment, SegmentFormat
from libs.common.process.health import Health
from libs.common.rows.batches import Outlet
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import decode_rows
from services.parser import app
from services.parser.app import Parser
from services.parser.quarantine import LOOK_SECONDS, Quarantine, Register
from services.parser.suspicion import Suspicion, Threshold
from services.parser.triage import Triage
from tests.checkpoint_table import FakeTable
from tests.metric_values import since_now
from tests.unit.parser.test_app import STREAMS, message, segment
from tests.unit.parser.test_kernel import GOOD

BAD, FINE = 7, 1  # blobs
RULE = Threshold(share=0.5, records=100)


class World:
    """A parser, the topic of its quarantine, and a clock."""

    def __init__(self, rule: Threshold = RULE, limit: float = 0.5) -> None:
        self.now = 1_000.0
        self.rule, self.limit = rule, limit
        self.topic: list[Inbound] = []
        self.reads = 0
        self.away = False
        self.health = Health()
        self.restart()

    def restart(self) -> None:
        """Begin with a new process."""
        register = Register("Quarantine", partial(FakeTable, self._records), patience=1.0)
        triage = Triage(Suspicion(self.rule), Quarantine(register, lambda: self.now))
        self.parser = Parser(Outlet("Errors", 1_000_000, self.limit), STREAMS, triage)
        self.parser.assigned([TopicPartition("Raw", number) for number in range(3)], lambda: None)

    def poll(self, *messages: Inbound) -> list[Outbound]:
        """Handle a poll and commit it."""
        outputs = self.parser.handle(messages)
        self.commit(outputs)
        return outputs

    def commit(self, outputs: list[Outbound]) -> None:
        """Commit what `handle` returned."""
        for out in outputs:
            if out.topic == "Quarantine":
                assert out.partition is not None
                self.write(out.partition, out.key, out.value)
        self.parser.committed()

    def new(self, segment: Inbound) -> Inbound:
        """Return a message that was written just now."""
        return msgspec.structs.replace(segment, timestamp_ms=int(self.now * 1_000))

    def write(self, partition: int, key: bytes | None, value: bytes | None) -> None:
        """Append to the topic."""
        self.topic.append(Inbound("Quarantine", partition, len(self.topic), 0, key, value, ()))

    def tick(self, seconds: float = 0.0) -> list[str]:
        """Let time pass; return what probes are told."""
        self.now += seconds
        self.parser.tick(self.health)
        return self.health.notes()

    def _records(self) -> Iterator[Inbound]:
        self.reads += 1
        if self.away:
            raise ServerUnreachable("Kafka is away")
        yield from self.topic


def rubbish(lines: int, offset: int = 0, generation: str = "g", good: int = 0) -> Inbound:
    """Return a segment of some good rows and many lines that are no JSON, of the bad blob."""
    data = b"".join([segment(BAD, *[GOOD] * good).data[1:] + b"\n" if good else b"", b"x\n" * lines])
    start = 14 + offset
    found = Segment(f"a.b/logs/{BAD}", generation, start, start + len(data), offset, SegmentFormat.JSON_LINES, data)
    return message(2, offset, found)


def fine(offset: int = 0, rows: int = 3) -> Inbound:
    """Return a segment of good rows of another blob."""
    return message(0, offset, segment(FINE, *[GOOD] * rows))


def letters(outputs: list[Outbound]) -> list[dict[str, str]]:
    """Return the headers of the dead letters."""
    return [{name: value.decode() for name, value in out.headers} for out in outputs if out.topic == "Errors"]


def rows(outputs: list[Outbound]) -> list[str]:
    """Return the blob of every row."""
    return [
        blob[-1] for out in outputs if out.topic == "Flows" for blob in decode_rows(FLOWS, out.value or b"")["blob"].to_pylist()
    ]


def test_a_rubbish_blob_costs_one_dead_letter_a_segment_and_the_others_nothing() -> None:
    """From the poll in which it turns bad on: its good rows of that poll are kept, later segments are not read."""
    world = World()
    outputs = world.poll(rubbish(60_000, good=5), fine())
    assert sorted(rows(outputs)) == ["1"] * 3 + ["7"] * 5
    (letter,) = letters(outputs)
    assert "60000 of its records cannot be parsed" in letter["reason"]
    later = rubbish(50, offset=4, good=50)
    outputs = world.poll(later, fine(1))
    assert rows(outputs) == ["1"] * 3
    (letter,) = letters(outputs)
    assert {name: letter[name] for name in letter if name != "reason"} == {
        "type": "dead-letter",
        "stage": "parser",
        "code": "quarantined",
        "blob": "a.b/logs/7",
        "generation": "g",
        "record-offset": "18",
        "source-topic": "Raw",
        "source-partition": "2",
        "source-offset": "4",
        "source-length": str(len(later.value or b"")),
        "source-omitted-bytes": str(len(later.value or b"")),
    }
    assert "is in quarantine" in letter["reason"]


def test_quarantine_is_written_beside_the_outputs_and_told() -> None:
    """The record goes to the partition of the blob's segments; metric and readiness say how many there are, the log which."""
    world = World()
    before = since_now("blobtide_parser_quarantined_blobs")
    assert world.tick() == []
    with capture_logs() as told:
        (record,) = (out for out in world.poll(rubbish(150, good=3)) if out.topic == "Quarantine")
    assert (record.key, record.partition) == (b"a.b/logs/7", 2)
    event = decode_event(record.value or b"")
    assert isinstance(event, BlobQuarantined)
    assert (event.blob, event.generation, event.offset, event.records, event.rejected) == ("a.b/logs/7", "g", 14, 153, 150)
    assert [line["blob"] for line in told] == ["a.b/logs/7"]
    assert world.tick() == ["1 blob is in quarantine: see `blobtide quarantine list`"]
    assert before() == 1
    world.parser.revoked([TopicPartition("Raw", 2)])
    assert world.tick() == []
    assert before() == 0


def test_what_is_not_committed_puts_nothing_in_quarantine() -> None:
    """A poll that an aborted transaction brings again is judged again, as if it had never been seen."""
    world = World()
    first = world.parser.handle([rubbish(80)])
    for _ in range(3):
        assert len(letters(world.parser.handle([rubbish(80)]))) == len(letters(first)) == 80
    world.parser.handle([rubbish(200)])
    outputs = world.poll(rubbish(10, good=90))
    assert [letter["code"] for letter in letters(outputs)] == ["bad_json"] * 10


def test_a_quarantine_outlives_the_process_and_ends_with_the_generation() -> None:
    """A new process knows it from the topic; a rewritten blob is another generation, which is read."""
    world = World()
    world.poll(rubbish(150))
    world.restart()
    assert [letter["code"] for letter in letters(world.poll(rubbish(1, offset=9)))] == ["quarantined"]
    outputs = world.poll(rubbish(1, offset=10, generation="h", good=5))
    assert rows(outputs) == ["7"] * 5
    assert [letter["code"] for letter in letters(outputs)] == ["bad_json"]


def test_a_released_blob_is_read_again() -> None:
    """A record without a value ends it, within seconds and without a restart; what is still bad comes back."""
    world = World()
    world.poll(rubbish(150))
    world.write(2, b"a.b/logs/7", None)
    assert world.tick(LOOK_SECONDS / 2) != []
    world.away = True
    assert world.tick(LOOK_SECONDS) != [], "Kafka is away: what is known stays"
    world.away = False
    assert world.tick(LOOK_SECONDS) == []
    assert rows(world.poll(rubbish(0, offset=9, good=5))) == ["7"] * 5
    assert [letter["code"] for letter in letters(world.poll(rubbish(300, offset=10)))] == ["quarantined"]


def test_what_was_written_after_a_release_is_read_however_soon_it_comes() -> None:
    """A replay that `release` orders begins at once: none of it is passed over since the parser has not looked yet."""
    world = World()
    world.poll(rubbish(150))
    assert world.tick(LOOK_SECONDS) != []
    world.write(2, b"a.b/logs/7", None)
    assert rows(world.poll(world.new(rubbish(0, offset=9, good=5)), fine())) == ["1"] * 3 + ["7"] * 5
    assert world.tick() == []


def test_of_a_poll_with_much_in_quarantine_the_topic_is_read_once() -> None:
    """And not at all for a poll of other blobs, or of segments that are older than the last look."""
    world = World()
    world.poll(rubbish(150))
    before = world.reads
    world.poll(*(world.new(rubbish(150, offset=offset)) for offset in range(9, 19)), fine())
    assert world.reads == before + 1
    world.poll(world.new(fine(offset=1)), rubbish(150, offset=20))
    assert world.reads == before + 1


def test_nothing_is_read_while_nothing_is_in_quarantine() -> None:
    """In normal operation the topic costs one look an assignment."""
    world = World()
    for _ in range(5):
        world.tick(LOOK_SECONDS)
    assert world.reads == 1


def test_records_of_the_topic_that_cannot_be_read_are_passed_over() -> None:
    """Whatever somebody wrote there, the parser starts."""
    world = World()
    world.poll(rubbish(150))
    world.write(1, b"k", b"garbage")
    world.write(1, None, None)
    world.restart()
    assert len(world.tick()) == 1


def test_a_blob_with_some_bad_records_is_read_as_ever() -> None:
    """Below the share every bad record goes to Errors with its bytes, also after a long time."""
    world = World()
    for offset in range(300):
        outputs = world.poll(rubbish(40, offset=offset, good=60))
        assert [letter["code"] for letter in letters(outputs)] == ["bad_json"] * 40
    assert world.tick() == []


def test_a_blob_that_turns_bad_late_is_found() -> None:
    """What was good long ago does not weigh for ever."""
    world = World()
    world.poll(rubbish(1, good=3_000))
    for offset in range(1, 40):
        world.poll(rubbish(0, offset=offset, good=3_000))
    for offset in range(40, 100):
        world.poll(rubbish(500, offset=offset), fine(offset, rows=1_000))
    assert len(world.tick()) == 1


def test_when_all_blobs_are_rubbish_the_service_stops() -> None:
    """That is a bug or a new format and no trouble of single blobs: the limit stays as the last resort."""
    world = World()

    def flood() -> None:
        for blob in range(20):
            data = b"x\n" * 2_000
            world.poll(
                message(0, blob, Segment(f"a.b/logs/{blob}", "g", 14, 14 + len(data), 1, SegmentFormat.JSON_LINES, data))
            )

    with pytest.raises(DeadLetterLimit, match="were rejected"):
        flood()


def test_when_one_of_the_blobs_is_rubbish_the_service_goes_on() -> None:
    """Even if nothing else comes, and whether it comes in one poll or drop by drop."""
    world = World()
    for offset in range(2_000):
        world.poll(rubbish(3, offset=offset))
    assert world.tick() != []


@pytest.mark.parametrize("lines", [b"x\n", b"\xff\n"])
def test_more_bad_records_than_can_be_held_are_one_blob_s_trouble(lines: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment with more of them is named by reference; good rows before it, and all of the others, are kept."""
    monkeypatch.setattr(app, "MOST_LETTERS", 500)
    world = World()
    data = lines * 2_000
    flood = Segment(f"a.b/logs/{BAD}", "g", 5_000, 5_000 + len(data), 2, SegmentFormat.JSON_LINES, data)
    outputs = world.poll(rubbish(2, good=5), message(2, 1, flood), rubbish(0, offset=2, good=5), fine())
    assert sorted(rows(outputs)) == ["1"] * 3 + ["7"] * 5
    assert [letter["code"] for letter in letters(outputs)] == ["bad_json"] * 2 + ["quarantined"] * 2
    assert [letter["source-offset"] for letter in letters(outputs)[2:]] == ["1", "2"]
    assert len(world.tick()) == 1


def test_more_dead_letters_than_can_be_held_of_blobs_that_are_mostly_good_stop_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They belong to nobody in particular, so nobody can be left out; nothing is returned."""
    monkeypatch.setattr(app, "MOST_LETTERS", 50)
    with pytest.raises(DeadLetterLimit, match="at once"):
        World().poll(*(message(0, blob, segment(blob, *[GOOD] * 20, *["bad"] * 10)) for blob in range(9)))


def test_messages_that_are_no_segments_are_nobody_s() -> None:
    """They count for the limit, whatever is in quarantine."""
    world = World()
    with pytest.raises(DeadLetterLimit):
        world.poll(rubbish(150), *(Inbound("Raw", 0, number, 0, b"k", b"no segment", ()) for number in range(300)))


def test_a_load_is_left_when_the_process_is_to_end() -> None:
    """What `between` raises is raised, and nothing is known then."""

    def leave() -> None:
        raise Retry("the service ends")

    world = World()
    with pytest.raises(Retry):
        world.parser.assigned([TopicPartition("Raw", 5)], leave)
