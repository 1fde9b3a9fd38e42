"""Dead letters of `convert` as an NDJSON file that stays small relative to its input: excerpts, with position and length."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import BinaryIO, Final

from libs.common.errors import BlobtideError
from libs.common.messages.dead_letters import DeadLetter

EXCERPT_BYTES: Final = 65_536
"""How much of the unreadable content is written; the rest is in the input file, at the reported position."""


class ErrorsFile:
    """Writes dead letters to `stream`, at most `limit` bytes."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._written = 0

    def write(self, letters: Iterable[DeadLetter]) -> None:
        """Write dead letters.

        Raises:
            BlobtideError: the limit is exceeded.
        """
        for letter in letters:
            self._write(letter)

    def _write(self, letter: DeadLetter) -> None:
        line = letter_line(letter)
        self._written += len(line)
        if self._written > self._limit:
            place = f"{letter.blob}, offset {letter.record_offset}"
            raise BlobtideError(
                f"more than {self._limit // 1_000_000} MB of dead letters, the last at {place}: stopped, no result was "
                "written. Is this a flow log? If so, raise --errors-limit or omit --errors"
            )
        self._stream.write(line)


def letter_line(letter: DeadLetter) -> bytes:
    """Return a dead letter as one line of JSON; bytes that are not UTF-8 text are in base64."""
    fields = {
        "code": letter.code.value,
        "reason": letter.reason,
        "file": letter.blob,
        "record_offset": letter.record_offset,
        "tuple_index": letter.tuple_index,
        "omitted_bytes": max(0, len(letter.data) - EXCERPT_BYTES) or None,
    }
    known = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(known | _content(letter.data), ensure_ascii=False).encode() + b"\n"


def _content(data: bytes) -> dict[str, str]:
    excerpt = data[:EXCERPT_BYTES]
    try:
        return {"text": excerpt.decode()}
    except UnicodeDecodeError as error:
        if len(excerpt) < len(data) and error.start >= len(excerpt) - 3:  # cut inside a character
            return {"text": excerpt[: error.start].decode()}
        return {"base64": base64.b64encode(excerpt).decode()}
