"""Make dead letters of what could not be read. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.messages.segments import Segment
from services.parser.letters import Refusal, SourceOf, letter_of
from services.parser.logs.extract import Verdicts
from services.parser.logs.lines import Broken, Lines


@dataclass(frozen=True, slots=True)
class RefusedLines:
    """Lines, and parts of segments, that could not be read."""

    lines: Lines
    broken: Sequence[Broken]
    reasons: dict[int, tuple[ErrorCode, str]]

    @classmethod
    def of(cls, lines: Lines, broken: Sequence[Broken], verdicts: Verdicts) -> RefusedLines:
        """Collect what was refused."""
        reasons = {number: (code, why) for numbers, code, why in verdicts.refused for number in numbers.tolist()}
        return cls(lines, broken, reasons)

    def __len__(self) -> int:
        return len(self.broken) + len(self.reasons)

    def letters(self, segments: Sequence[Segment], source_of: SourceOf, most: int) -> list[DeadLetter]:
        """Return the first dead letters, at most so many, in the order of segments."""
        found = sorted(self._found(segments), key=lambda one: one[:2])
        return [
            letter_of(segments[number], offset, refusal, source_of(number)) for number, offset, refusal in islice(found, most)
        ]

    def _found(self, segments: Sequence[Segment]) -> Iterator[tuple[int, int, Refusal]]:
        for one in self.broken:
            data = segments[one.segment].data[one.start : one.end]
            yield one.segment, segments[one.segment].start + one.start, Refusal(one.code, one.reason, data)
        for number, (code, why) in self.reasons.items():
            yield int(self.lines.segment[number]), int(self.lines.offset[number]), Refusal(code, why, self.lines.line(number))
