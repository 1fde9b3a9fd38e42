"""Dead letters of the parser: why something is refused, and how many of them may be held at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.messages.segments import Segment

STAGE: Final = "parser"

SourceOf = Callable[[int], Mapping[str, str]]
"""Returns, for the number of a segment, the Kafka coordinates that its dead letters carry."""


def no_source(_: int) -> Mapping[str, str]:
    """Give no source message for any segment."""
    return {}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something becomes a dead letter, its bytes, and, for a tuple, its index in the record."""

    code: ErrorCode
    reason: str
    data: bytes
    tuple_index: int | None = None


class TooManyLetters(Exception):
    """There are more dead letters than the caller wants in memory; `letters` are the first of them."""

    def __init__(self, letters: list[DeadLetter]) -> None:
        super().__init__(f"more than {len(letters)} dead letters")
        self.letters = letters


def letter_of(segment: Segment, offset: int, refusal: Refusal, source: Mapping[str, str]) -> DeadLetter:
    """Return the dead letter for something at `offset` in the blob of `segment`."""
    return DeadLetter(
        stage=STAGE,
        code=refusal.code,
        reason=refusal.reason,
        data=refusal.data,
        key=segment.blob.encode(),
        blob=segment.blob,
        generation=segment.generation,
        record_offset=offset,
        tuple_index=refusal.tuple_index,
        source=source,
    )
