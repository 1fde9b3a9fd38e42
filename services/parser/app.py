"""Turn segments into batches of rows: the transform that runs between reading and committing.

The segments of one poll and one stream are parsed together, whatever their partitions, because each parse has a fixed cost; the
rows of each partition leave as one batch of each type, on that partition, or as few batches as their topic allows. A portion
beyond `PARSE_BYTES` costs memory without any gain, so a poll may be split into several; a partition is split only if it alone
is larger than a portion.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, Final

import numpy as np
import structlog

from libs.common.errors import CodecError, DeadLetterLimit
from libs.common.kafka.loops.dead_messages import coordinates, dead_message
from libs.common.kafka.loops.limit import WAY_PAST, RejectionLimit
from libs.common.kafka.loops.transform_loop import Transform
from libs.common.kafka.records import Inbound, Outbound, TopicPartition
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.messages.segments import Segment
from libs.common.process.health import Health
from libs.common.rows.batches import Encoded, Outlet
from libs.common.rows.row_type import RowType
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.wire import decode_rows, row_headers
from services.parser import metrics
from services.parser.batches import encoded
from services.parser.counted import Counted
from services.parser.extraction import Arrived, Extraction, TypedRows
from services.parser.letters import STAGE, TooManyLetters
from services.parser.streams import PARSE_BYTES, InputStream
from services.parser.triage import ParserReading, Triage

log = structlog.get_logger(__name__)

MOST_LETTERS: Final = 100_000
"""Per poll, unless everything may be a dead letter: they must stay small relative to a worker's memory."""


NOTHING: Final = Extraction((), np.empty(0, np.int64), [], 0)
_NANOSECONDS: Final = 1_000_000  # in a millisecond


class Parser(Transform):
    """A `Transform` of segments into batches of rows and dead letters; `streams` are by the topics of their segments."""

    def __init__(
        self, outlet: Outlet, streams: Mapping[str, InputStream], triage: Triage, clock: Callable[[], float] = time.time
    ) -> None:
        self._outlet = outlet
        self._streams = streams
        self._triage = triage
        self._clock = clock
        self._limits = {topic: RejectionLimit(outlet.dead_letter_limit) for topic in streams}
        self._most_letters = MOST_LETTERS if outlet.dead_letter_limit < 1 else math.inf
        self._owned: set[TopicPartition] = set()
        self._uncommitted = Counted()  # of the last `handle`

    def handle(self, batch: Sequence[Inbound]) -> list[Outbound]:
        """Parse one poll.

        Raises:
            DeadLetterLimit: too much of the latest input of a stream cannot be parsed.
        """
        self._triage.begin()
        poll = _Poll()
        for topic, stream in self._streams.items():
            # Grouped by partition, in order.
            messages = sorted((message for message in batch if message.topic == topic), key=attrgetter("partition"))
            if messages:
                self._handle_stream(_Share(topic, stream), messages, poll)
        self._uncommitted = poll.counted
        poll.counted.letters.update(letter.code for letter in poll.letters)
        # A message takes several times the memory of a dead letter: create messages only for those that will be written.
        poll.outputs += [Outbound(self._outlet.errors_topic, one.data, one.key, one.headers()) for one in poll.letters]
        return poll.outputs + self._triage.outputs()

    def committed(self) -> None:
        """Count the last batch; a batch repeated after an aborted transaction counts once."""
        for topic, judged in self._uncommitted.judged.items():
            self._limits[topic].count(*judged)
        self._uncommitted.count(self._clock())
        self._triage.committed()

    def assigned(self, partitions: Collection[TopicPartition], between: Callable[[], None]) -> None:
        """Load the quarantine of new partitions."""
        self._triage.assigned(sorted({source.partition for source in partitions}), between)
        self._owned |= set(partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Forget partitions, except for those that are still read in another stream."""
        self._owned -= set(partitions)
        self._triage.revoked({source.partition for source in partitions} - {source.partition for source in self._owned})

    def tick(self, health: Health) -> None:
        """Check for releases from quarantine."""
        self._triage.tick(health)

    def _handle_stream(self, share: _Share, messages: list[Inbound], poll: _Poll) -> None:
        before = self._triage.counted
        for portion in portions([(message.partition, len(message.value or b"")) for message in messages]):
            for reading in self._readings(share, messages[portion], poll):
                self._take(share, reading, poll)
        letters = self._triage.counted - before
        judged = poll.counted.judged[share.topic] = (share.good + letters, letters + share.too_large)
        try:
            self._limits[share.topic].judge(*judged)
        except DeadLetterLimit:
            _show(poll.letters)
            raise

    def _readings(self, share: _Share, messages: list[Inbound], poll: _Poll) -> Iterator[ParserReading]:
        """Parse messages together, or one by one if they contain too much garbage to attribute."""
        try:
            reading = self._parse(share, messages, self._most_letters - len(poll.letters))
        except TooManyLetters as error:
            if not self._triage.in_force:
                raise _too_many([*poll.letters, *error.letters]) from None
        else:
            yield reading
            return
        for message in messages:
            yield self._parse_alone(share, message, poll)

    def _parse_alone(self, share: _Share, message: Inbound, poll: _Poll) -> ParserReading:
        try:
            return self._parse(share, [message], self._most_letters)
        except TooManyLetters as error:
            letter = self._triage.rubbish(message, _segment(message), error.letters)
            if letter is None:
                raise _too_many([*poll.letters, *error.letters]) from None
            return ParserReading([], [], NOTHING, [letter])

    def _parse(self, share: _Share, messages: list[Inbound], most_letters: float) -> ParserReading:
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
        times = [message.timestamp_ms * _NANOSECONDS for message in carriers]
        arrived = Arrived(segments, times, cache(lambda number: coordinates(carriers[number])))
        with metrics.PARSE_SECONDS.time():
            extraction = share.stream.kernel.extract(arrived, most_letters)
        return ParserReading(segments, carriers, extraction, letters + extraction.dead_letters)

    def _take(self, share: _Share, reading: ParserReading, poll: _Poll) -> None:
        reading = self._triage.sift(reading)
        poll.counted.add(reading.parsed, len(reading.segments), sum(len(segment.data) for segment in reading.segments))
        share.good += int(reading.parsed.segment_good.sum())
        poll.letters += reading.letters
        for rows in reading.parsed.tables:
            poll.outputs += self._batches(share, rows, reading.carriers, poll)
        if len(poll.letters) > self._most_letters:
            raise _too_many(poll.letters)

    def _batches(self, share: _Share, rows: TypedRows, carriers: list[Inbound], poll: _Poll) -> Iterator[Outbound]:
        """Yield batches of rows; a row too large for any message becomes a dead letter."""
        topic = share.stream.topics[rows.row_type.name]
        room = self._outlet.room(topic)
        partitions = [message.partition for message in carriers]
        for partition, part in encoded(rows, partitions, min(self._outlet.batch_bytes, room)):
            if len(part.data) > room:
                poll.letters.append(_too_large(rows.row_type, part, carriers, room))
                share.too_large += 1
                continue
            poll.counted.add_batch(rows.row_type, part.rows, len(part.data))
            headers = (*row_headers(rows.row_type), ("rows", str(part.rows).encode()))
            yield Outbound(topic, part.data, headers=headers, partition=partition)


@dataclass(slots=True)
class _Share:
    """The share of one stream in a poll: how many of its tuples or lines were read, and rows that fit in no message."""

    topic: str
    stream: InputStream
    good: int = 0
    too_large: int = 0


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


def _too_large(row_type: RowType, part: Encoded, messages: Sequence[Inbound], room: int) -> DeadLetter:
    """Return the dead letter for the one row in `part`, by reference, because the tuple itself is not what makes it large."""
    row = decode_rows(row_type, part.data).select(list(row_type.position.names)).to_pylist()[0]
    identity = dict(zip(FLOWS.position.names, row.values(), strict=True))
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
