"""Turn segments into flow batches: the transform that runs between reading and committing.

The segments of one poll are parsed together, whatever their partitions, because each parse has a fixed cost; the rows of each
partition leave as one batch, on that partition, or as few batches as its topic allows. A portion beyond `PARSE_BYTES` costs
memory without any gain, so a poll may be split into several; a partition is split only if it alone is larger than a portion.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, Final

import pyarrow as pa
import structlog

from libs.common.errors import CodecError, DeadLetterLimit
from libs.common.kafka.loops.dead_messages import coordinates, dead_message
from libs.common.kafka.loops.limit import WAY_PAST, RejectionLimit
from libs.common.kafka.loops.transform_loop import Transform
from libs.common.kafka.records import Inbound, Outbound, TopicPartition
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.messages.segments import Segment
from libs.common.process.health import Health
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import decode_rows, encode_rows, row_headers
from services.parser import metrics
from services.parser.counted import Counted
from services.parser.flows.dictionary_columns import trimmed
from services.parser.flows.gathering import STAGE, TooManyLetters
from services.parser.flows.kernel import Parsed, parse
from services.parser.triage import ParserReading, Triage

log = structlog.get_logger(__name__)

PARSE_BYTES: Final = 4_194_304

MOST_LETTERS: Final = 100_000
"""Per poll, unless everything may be a dead letter: they must stay small relative to a worker's memory."""


_HEADERS: Final = row_headers(FLOWS)
_SCHEMA_BYTES: Final = 8_192  # of a flow batch, whatever its rows


def _whatever(_topic: str) -> int:
    return sys.maxsize


@dataclass(frozen=True, slots=True)
class ResultTopics:
    """Destinations of results.

    Attributes:
        flows_topic, errors_topic: names of the topics.
        batch_bytes: maximum size of a flow batch.
        dead_letter_limit: share of dead letters above which the service stops.
        room: returns the current maximum size of a value for a topic.
    """

    flows_topic: str
    errors_topic: str
    batch_bytes: int
    dead_letter_limit: float
    room: Callable[[str], int] = _whatever


class FlowParser(Transform):
    """A `Transform` of segments into flow batches and dead letters."""

    def __init__(self, outlet: ResultTopics, triage: Triage, clock: Callable[[], float] = time.time) -> None:
        self._outlet = outlet
        self._triage = triage
        self._clock = clock
        self._limit = RejectionLimit(outlet.dead_letter_limit)
        self._most_letters = MOST_LETTERS if outlet.dead_letter_limit < 1 else math.inf
        self._uncommitted = Counted()  # of the last `handle`

    def handle(self, batch: Sequence[Inbound]) -> list[Outbound]:
        """Parse one poll.

        Raises:
            DeadLetterLimit: too much of the latest input cannot be parsed.
        """
        self._triage.begin()
        poll = _Poll()
        messages = sorted(batch, key=attrgetter("partition"))  # grouped by partition, in order
        for portion in portions([(message.partition, len(message.value or b"")) for message in messages]):
            for reading in self._readings(messages[portion], poll):
                self._take(reading, poll)
        self._judge(poll)
        # A message takes several times the memory of a dead letter: create messages only for those that will be written.
        poll.outputs += [Outbound(self._outlet.errors_topic, one.data, one.key, one.headers()) for one in poll.letters]
        return poll.outputs + self._triage.outputs()

    def committed(self) -> None:
        """Count the last batch; a batch repeated after an aborted transaction counts once."""
        self._limit.count(*self._uncommitted.judged)
        self._uncommitted.count(self._clock())
        self._triage.committed()

    def assigned(self, partitions: Collection[TopicPartition], between: Callable[[], None]) -> None:
        """Load the quarantine of new partitions."""
        self._triage.assigned([source.partition for source in partitions], between)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Forget partitions."""
        self._triage.revoked([source.partition for source in partitions])

    def tick(self, health: Health) -> None:
        """Check for releases from quarantine."""
        self._triage.tick(health)

    def _readings(self, messages: list[Inbound], poll: _Poll) -> Iterator[ParserReading]:
        """Parse messages together, or one by one if they contain too much garbage to attribute."""
        try:
            reading = self._parse(messages, self._most_letters - len(poll.letters))
        except TooManyLetters as error:
            if not self._triage.in_force:
                raise _too_many([*poll.letters, *error.letters]) from None
        else:
            yield reading
            return
        for message in messages:
            yield self._parse_alone(message, poll)

    def _parse_alone(self, message: Inbound, poll: _Poll) -> ParserReading:
        try:
            return self._parse([message], self._most_letters)
        except TooManyLetters as error:
            letter = self._triage.rubbish(message, _segment(message), error.letters)
            if letter is None:
                raise _too_many([*poll.letters, *error.letters]) from None
            return ParserReading([], [], parse([]), [letter])

    def _parse(self, messages: list[Inbound], most_letters: float) -> ParserReading:
        segments: list[Segment] = []
        carriers: list[Inbound] = []
        letters: list[DeadLetter] = []
        for message in messages:
            try:
                segment = _segment(message)
            except CodecError as error:
                letters.append(dead_message(STAGE, ErrorCode.BAD_MESSAGE, str(error), message))
                continue
            if letter := self._triage.held(message, segment):
                letters.append(letter)
                continue
            segments.append(segment)
            carriers.append(message)
        with metrics.PARSE_SECONDS.time():
            parsed = parse(segments, cache(lambda number: coordinates(carriers[number])), most_letters)
        return ParserReading(segments, carriers, parsed, letters + parsed.dead_letters)

    def _take(self, reading: ParserReading, poll: _Poll) -> None:
        reading = self._triage.sift(reading)
        poll.counted.add(reading.parsed, len(reading.segments), sum(len(segment.data) for segment in reading.segments))
        poll.letters += reading.letters
        poll.outputs += self._flows(reading, poll)
        if len(poll.letters) > self._most_letters:
            raise _too_many(poll.letters)

    def _judge(self, poll: _Poll) -> None:
        counted = self._uncommitted = poll.counted
        counted.letters.update(letter.code for letter in poll.letters)
        bad = self._triage.counted + counted.too_large
        counted.judged = (counted.rows + bad, bad)
        try:
            self._limit.judge(*counted.judged)
        except DeadLetterLimit:
            _show(poll.letters)
            raise

    def _flows(self, result: ParserReading, poll: _Poll) -> Iterator[Outbound]:
        """Yield the flow batches; a row too large for any message becomes a dead letter."""
        room = self._outlet.room(self._outlet.flows_topic)
        partitions = [message.partition for message in result.carriers]
        for partition, part in encoded(result.parsed, partitions, min(self._outlet.batch_bytes, room)):
            if len(part.data) > room:
                poll.letters.append(_too_large(part, result.carriers, room))
                poll.counted.too_large += 1
                continue
            poll.counted.add_batch(part.rows, len(part.data))
            headers = (*_HEADERS, ("rows", str(part.rows).encode()))
            yield Outbound(self._outlet.flows_topic, part.data, headers=headers, partition=partition)


@dataclass(slots=True)
class _Poll:
    """The results of a poll so far."""

    outputs: list[Outbound] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    counted: Counted = field(default_factory=Counted)


def _too_many(letters: Sequence[DeadLetter]) -> DeadLetterLimit:
    _show(letters)
    return DeadLetterLimit(f"more than {MOST_LETTERS} dead letters at once; {WAY_PAST}")


def _show(letters: Sequence[DeadLetter]) -> None:
    """Log one of the dead letters that are not written because there are too many."""
    for letter in letters[-1:]:
        log.error(
            "too much input cannot be parsed",
            code=letter.code,
            reason=letter.reason,
            blob=letter.blob,
            offset=letter.record_offset,
        )


def portions(messages: Sequence[tuple[int, int]]) -> Iterator[slice]:
    """Split messages, given as (partition, bytes) and grouped by partition, into portions of about `PARSE_BYTES`.

    A partition is split only if it alone is larger: otherwise its rows would needlessly leave as two batches.
    """
    start = end = size = 0
    for _, group in groupby(messages, key=itemgetter(0)):
        sizes = [one for _, one in group]
        if size and size + sum(sizes) > PARSE_BYTES:
            yield slice(start, end)
            start, size = end, 0
        for one in sizes:
            end, size = end + 1, size + one
            if size >= PARSE_BYTES:
                yield slice(start, end)
                start, size = end, 0
    if start < end:
        yield slice(start, end)


def _segment(message: Inbound) -> Segment:
    if message.value is None:
        raise CodecError("not a segment: no value")
    return Segment.from_message(message.headers, message.value)


def _too_large(part: Encoded, messages: Sequence[Inbound], room: int) -> DeadLetter:
    """Return the dead letter for the one row in `part`, by reference, because the tuple itself is not what makes it large."""
    identity = decode_rows(FLOWS, part.data).select(list(FLOWS.position.names)).to_pylist()[0]
    reason = f"a row of {len(part.data)} bytes does not fit in a message of {room} bytes: raise the topic's max.message.bytes"
    return DeadLetter(
        stage=STAGE,
        code=ErrorCode.TOO_LARGE,
        reason=reason,
        data=b"",
        key=identity["blob"].encode(),
        source=next((coordinates(message) for message in reversed(messages) if _holds(message, identity)), {}),
        **identity,
    )


def _holds(message: Inbound, identity: Mapping[str, Any]) -> bool:
    """Return whether the row came in this message; for pieces of a record, the last one that begins before the row counts."""
    try:
        segment = _segment(message)
    except CodecError:
        return False
    same = (segment.blob, segment.generation) == (identity["blob"], identity["generation"])
    first_tuple = segment.piece.first_tuple if segment.piece else 0
    return same and segment.start <= identity["record_offset"] < segment.end and first_tuple <= identity["tuple_index"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded flow batch, with its number of rows."""

    rows: int
    data: pa.Buffer


def encoded(parsed: Parsed, partitions: Sequence[int], limit: int) -> Iterator[tuple[int, Encoded]]:
    """Encode rows as flow batches of at most `limit` bytes, each with its partition, given the `partitions` of the segments."""
    start = 0
    for partition, segments in groupby(zip(partitions, parsed.segment_rows.tolist(), strict=True), key=itemgetter(0)):
        rows = sum(count for _, count in segments)
        for part in slices(parsed.batch.slice(start, rows), limit):
            yield partition, part
        start += rows


def slices(batch: pa.RecordBatch, limit: int) -> Iterator[Encoded]:
    """Encode `batch` as flow batches of at most `limit` bytes (a single row may be larger); none if it is empty."""
    rows = batch.num_rows
    step = max(1, rows * max(limit - _SCHEMA_BYTES, limit // 2) // max(batch.nbytes, 1))
    for start in range(0, rows, step):
        yield from _halves(batch.slice(start, step) if step < rows else batch, limit)


def _halves(batch: pa.RecordBatch, limit: int) -> Iterator[Encoded]:
    rows = batch.num_rows
    trimmed_batch = pa.RecordBatch.from_arrays([trimmed(column) for column in batch.columns], schema=batch.schema)
    data = encode_rows(FLOWS, trimmed_batch)
    if len(data) <= limit or rows == 1:
        yield Encoded(rows, data)
        return
    yield from _halves(batch.slice(0, rows // 2), limit)
    yield from _halves(batch.slice(rows // 2), limit)
