"""The frames of a message, and the replies by which a ROUTER peer acknowledges messages.

A message has three frames: topic, header and payload. The header is a JSON object, the same in all modes:

- ``id``: the identity of the row, the same in every replay.
- ``session``: 16 hex digits, chosen anew whenever the sink opens.
- ``sequence``: number of the message in its session, from 1.
- ``topic_sequence``: number of the message among those of its session that have the same topic, from 1.
- ``content_type``: the media type of the payload.
- ``rows``: the row type.

A reply has three or four frames: ``ACK`` (stored), ``REFUSE`` (never to be stored, with a reason) or ``LATER`` (cannot be
stored now, with a reason); then the session; then sequence numbers as text, as in ``17`` or ``1-100,103``; then the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from libs.common.errors import CodecError

LARGEST_REPLY: Final = 65_536  # bytes of a frame
_NUMBERS = re.compile(rb"[0-9]{1,18}(?:-[0-9]{1,18})?(?:,[0-9]{1,18}(?:-[0-9]{1,18})?)*")
_WITHOUT_REASON: Final = 3
_WITH_REASON: Final = 4


class Answer(Enum):
    """What a peer says about messages."""

    ACK = b"ACK"
    REFUSE = b"REFUSE"
    LATER = b"LATER"


@dataclass(frozen=True, slots=True)
class Reply:
    """A peer's reply: ranges of sequence numbers, both ends included."""

    answer: Answer
    session: bytes
    ranges: tuple[tuple[int, int], ...]
    reason: bytes = b""

    @classmethod
    def read(cls, frames: Sequence[bytes]) -> Reply:
        """Read the frames of a reply. Raises `CodecError`."""
        if not _WITHOUT_REASON <= len(frames) <= _WITH_REASON:
            raise CodecError(f"a reply has three or four frames, not {len(frames)}")
        if frames[0] not in {answer.value for answer in Answer}:
            raise CodecError("a reply begins with ACK, REFUSE or LATER")
        if not _NUMBERS.fullmatch(frames[2]):
            raise CodecError("the third frame of a reply has sequence numbers, as in 1-100,103")
        ranges = tuple(_range(part) for part in frames[2].split(b","))
        return cls(Answer(frames[0]), frames[1], ranges, b"".join(frames[3:]))

    def among(self, waiting: dict[int, int]) -> list[int]:
        """Return those keys of `waiting`, which ascend, that the reply is about."""
        if not waiting:
            return []
        lowest, highest = next(iter(waiting)), next(reversed(waiting))
        clamped = ((max(first, lowest), min(last, highest)) for first, last in self.ranges)
        return [number for first, last in clamped for number in range(first, last + 1) if number in waiting]


class Numbering:
    """Writes headers with consecutive numbers. A number is used only once its message is sent."""

    def __init__(self, session: str, content_type: str, rows: str) -> None:
        self.session = session.encode()
        self.sequence = 0  # of the last message sent
        self._topics: dict[bytes, int] = {}
        self._rest = f'"session":"{session}","content_type":{json.dumps(content_type)},"rows":{json.dumps(rows)}}}'

    def header(self, identity: str, topic: bytes) -> bytes:
        """Return the header of the next message."""
        of_topic = self._topics.get(topic, 0) + 1
        return f'{{"id":"{identity}","sequence":{self.sequence + 1},"topic_sequence":{of_topic},{self._rest}'.encode()

    def sent(self, topic: bytes) -> None:
        """Note that the next message was sent."""
        self.sequence += 1
        self._topics[topic] = self._topics.get(topic, 0) + 1


def _range(text: bytes) -> tuple[int, int]:
    first, _, last = text.partition(b"-")
    return int(first), int(last or first)
