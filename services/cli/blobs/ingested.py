"""The result of reading one blob once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from libs.common.messages.dead_letters import DeadLetter
    from services.ingest.work import Step

_SHOWN: Final = 20  # reasons


@dataclass(slots=True)
class Ingested:
    """Sums over steps.

    Attributes:
        blob, topic: what is read, and where it is written.
        size: of the blob, in bytes, when reading began.
        start, end: the first offset that was written, and the offset behind the last; in the text of a compressed blob.
        bytes, lines, segments: what was written; documents have records for lines.
        read_to: bytes of the blob that were read.
        is_rest_open: whether what follows is a line or record that is not complete yet.
        refused: number of dead letters.
        reasons: why, of the first of them.
    """

    blob: str
    topic: str
    size: int
    generation: str = ""
    encoding: str = ""
    start: int | None = None
    end: int | None = None
    bytes: int = 0
    lines: int = 0
    segments: int = 0
    read_to: int = 0
    is_rest_open: bool = False
    refused: int = 0
    reasons: list[dict[str, Any]] = field(default_factory=list)

    def add(self, step: Step) -> None:
        """Add what was written of a step."""
        for segment in step.segments:
            self.start = segment.start if self.start is None else self.start
            self.end = segment.end
            self.bytes += len(segment.data)
        self.segments += len(step.segments)
        self.lines += step.completion.records if step.completion else 0
        if step.checkpoint is not None:
            self.generation, self.encoding = step.checkpoint.generation, step.checkpoint.encoding
            self.read_to, self.is_rest_open = step.checkpoint.read_to, bool(step.checkpoint.unread)
        self.refused += len(step.dead_letters)
        self.reasons += [_reason(letter) for letter in step.dead_letters[: _SHOWN - len(self.reasons)]]

    def values(self) -> dict[str, Any]:
        """Return it as JSON has it; offsets are null if nothing was written."""
        return {
            "blob": self.blob,
            "generation": self.generation or None,
            "topic": self.topic,
            "encoding": self.encoding or None,
            "start_offset": self.start,
            "end_offset": self.end,
            "bytes": self.bytes,
            "lines": self.lines,
            "segments": self.segments,
            "blob_bytes": self.size,
            "blob_bytes_read": self.read_to,
            "incomplete_line": self.is_rest_open,
            "refused": self.refused,
            "reasons": self.reasons,
        }

    def text(self) -> Iterator[str]:
        """Yield it for people."""
        yield self.blob
        if self.segments:
            what = f"bytes of the text in it ({self.encoding})" if self.encoding else "bytes"
            yield f"  {self.lines:,} lines in {self.segments:,} segments written to {self.topic}"
            yield f"  offsets {self.start:,} to {self.end:,}: {self.bytes:,} {what}"
        else:
            yield "  nothing to write"
        if self.generation:
            yield f"  generation {self.generation}, {self.read_to:,} of {self.size:,} bytes read"
        if self.is_rest_open and not self.refused:
            yield "  its last line has no end yet; --closed publishes it as it is"
        yield from (f"  refused: {one['code']} at {one['offset']}: {one['reason']}" for one in self.reasons)
        if self.refused > len(self.reasons):
            yield f"  and {self.refused - len(self.reasons):,} more, all in the errors topic"


def _reason(letter: DeadLetter) -> dict[str, Any]:
    return {"code": letter.code.value, "offset": letter.record_offset, "reason": letter.reason}
