"""Deal with blobs that are mostly bad, so that they cost the others nothing.

A blob is judged by what was read of it, after each portion of a poll. When it is condemned, its dead letters of that portion
become one per segment, by reference, and its rows are kept; from then on its segments are not read but referenced in the same
way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from libs.common.kafka.loops.dead_messages import coordinates
from libs.common.kafka.records import Inbound, Outbound
from libs.common.messages.dead_letters import OMITTED_BYTES, DeadLetter, ErrorCode
from libs.common.messages.segments import Segment
from libs.common.process.health import Health
from services.parser.extraction import Extraction
from services.parser.letters import STAGE
from services.parser.quarantine import Quarantine
from services.parser.suspicion import Source, Suspicion, Tally


@dataclass(frozen=True, slots=True)
class ParserReading:
    """Results for some messages: `parsed` from `segments`, which came in `carriers`; `letters` are all dead letters."""

    segments: list[Segment]
    carriers: list[Inbound]
    parsed: Extraction
    letters: list[DeadLetter]


class Triage:
    """Knows which blobs are quarantined, and quarantines others."""

    def __init__(self, suspicion: Suspicion, quarantine: Quarantine) -> None:
        self._suspicion = suspicion
        self._quarantine = quarantine
        self.counted = 0  # dead letters since `begin` that count for the limit

    @property
    def in_force(self) -> bool:
        """Whether blobs can be quarantined at all."""
        return self._suspicion.rule.in_force

    def begin(self) -> None:
        """Forget uncommitted observations."""
        self.counted = 0
        self._suspicion.begin()
        self._quarantine.begin()

    def committed(self) -> None:
        """Keep observations since `begin`."""
        self._suspicion.committed()
        self._quarantine.committed()

    def outputs(self) -> list[Outbound]:
        """Return the records to commit for the observations since `begin`."""
        return list(self._quarantine.outputs())

    def held(self, message: Inbound, segment: Segment) -> DeadLetter | None:
        """Return the dead letter of a segment that must not be read because its blob is quarantined."""
        if not self._quarantine.holds(message, segment):
            return None
        return _reference(segment, message, "not read because the blob is in quarantine")

    def sift(self, reading: ParserReading) -> ParserReading:
        """Judge the blobs of a reading; return it with the letters to write."""
        of_blob, others = _by_source(reading.letters)
        self.counted += others
        if not of_blob and not self._suspicion:
            return reading
        good = self._good(reading, of_blob)
        condemned = self._look({source: (good[source], of_blob[source]) for source in good.keys() | of_blob.keys()})
        for source, tally in condemned.items():
            first = next(number for number, segment in enumerate(reading.segments) if _source(segment) == source)
            self._quarantine.put(reading.carriers[first].partition, source, reading.segments[first].start, tally)
        return replace(reading, letters=_collapsed(reading, condemned.keys())) if condemned else reading

    def rubbish(self, message: Inbound, segment: Segment, bad: list[DeadLetter]) -> DeadLetter | None:
        """Return the dead letter of a segment with more bad records than can be held; None if its blob is not condemned."""
        source = _source(segment)
        tally = self._look({source: (0, len(bad))}).get(source)
        if tally is None:
            return None
        self._quarantine.put(message.partition, source, segment.start, tally)
        reason = f"not read because more than {len(bad)} of its records cannot be parsed; the first: {bad[0].reason}"
        return _reference(segment, message, reason)

    def assigned(self, partitions: Collection[int], between: Callable[[], None]) -> None:
        """Load the quarantine of new partitions; raises like `Quarantine.assigned`."""
        self._quarantine.assigned(partitions, between)

    def revoked(self, partitions: Collection[int]) -> None:
        """Forget partitions."""
        self._quarantine.revoked(partitions)

    def tick(self, health: Health) -> None:
        """Check for releases, and report the quarantine."""
        self._quarantine.tick(health)

    def _look(self, found: Mapping[Source, tuple[int, int]]) -> Mapping[Source, Tally]:
        verdict = self._suspicion.look(found)
        self.counted += verdict.counted
        return verdict.condemned

    def _good(self, reading: ParserReading, of_blob: Counter[Source]) -> Counter[Source]:
        """Count what was read of each blob that is already being counted, or must be from now on."""
        good: Counter[Source] = Counter()
        for segment, rows in zip(reading.segments, reading.parsed.segment_good.tolist(), strict=True):
            source = _source(segment)
            if source in of_blob or self._suspicion.knows(source):
                good[source] += rows
        return good


def _source(segment: Segment) -> Source:
    return segment.blob, segment.generation


def _by_source(letters: list[DeadLetter]) -> tuple[Counter[Source], int]:
    """Count the letters of each blob, and those that belong to none; references do not count."""
    found: Counter[Source] = Counter()
    others = 0
    for letter in letters:
        if letter.blob is None or letter.generation is None:
            others += 1
        elif letter.code is not ErrorCode.QUARANTINED:
            found[letter.blob, letter.generation] += 1
    return found, others


def _collapsed(reading: ParserReading, condemned: Collection[Source]) -> list[DeadLetter]:
    """Replace the letters of condemned blobs with one per segment, by reference."""
    kept: list[DeadLetter] = []
    bad: dict[tuple[str, str], list[DeadLetter]] = defaultdict(list)  # by partition and offset of the segment
    for letter in reading.letters:
        if (letter.blob, letter.generation) in condemned and letter.code is not ErrorCode.QUARANTINED:
            bad[letter.source["partition"], letter.source["offset"]].append(letter)
        else:
            kept.append(letter)
    for segment, message in zip(reading.segments, reading.carriers, strict=True):
        if letters := bad.get((str(message.partition), str(message.offset))):
            reason = f"{len(letters)} of its records cannot be parsed; the first: {letters[0].reason}; the others became rows"
            kept.append(_reference(segment, message, reason))
    return kept


def _reference(segment: Segment, message: Inbound, reason: str) -> DeadLetter:
    source = {
        **coordinates(message),
        "length": str(segment.end - segment.start),
        OMITTED_BYTES: str(len(segment.data)),
    }
    return DeadLetter(
        stage=STAGE,
        code=ErrorCode.QUARANTINED,
        reason=f"segment of {len(segment.data)} bytes, which remain at the position in the source-... headers: {reason}",
        data=b"",
        key=segment.blob.encode(),
        blob=segment.blob,
        generation=segment.generation,
        record_offset=segment.start,
        source=source,
    )
