"""The lines of raw segments, and filters on them: by blob, by label, by text, by a field of the JSON in it. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from libs.common.errors import CodecError
from libs.common.kafka.records import Inbound
from libs.common.linear_regex import linear_regex
from libs.common.messages.segments import Segment

_COMPARISONS: Final = ("!=", "~", "=")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a blob.

    Attributes:
        segment: the segment that holds it.
        offset: where it begins in the blob; of a compressed blob, in its text.
        text: without its line end; bytes that are not UTF-8 as escapes.
        labels: those of the blob.
    """

    segment: Segment
    offset: int
    text: str
    labels: Mapping[str, str]

    def values(self) -> dict[str, Any]:
        """Return it as JSON has it; a text that is a JSON object as that object."""
        content = object_of(self.text)
        return {
            "blob": self.segment.blob,
            "generation": self.segment.generation,
            "offset": self.offset,
            "labels": dict(self.labels),
            "line": self.text if content is None else content,
        }


Filter = Callable[[Line], bool]


def lines_of(record: Inbound) -> Iterator[Line]:
    """Yield the lines of a message of a raw topic. Raises CodecError if it is not a segment."""
    segment = Segment.from_message(record.headers, record.value or b"")
    labels = _labels(segment.labels)
    start = 0
    for line in _by_newlines(segment.data):
        yield Line(segment, segment.start + start, line.rstrip(b"\r\n").decode(errors="backslashreplace"), labels)
        start += len(line)


def object_of(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text is; None if it is something else."""
    if not text.startswith("{"):
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def blob_filter(pattern: str) -> Filter:
    """Return a filter by a glob (``*``, ``?``) on the blob's id."""
    return lambda line: fnmatchcase(line.segment.blob, pattern)


def label_filter(name: str, value: str) -> Filter:
    """Return a filter by a label."""
    return lambda line: line.labels.get(name) == value


def text_filter(pattern: str) -> Filter:
    """Return a filter by a regular expression. Raises ValueError if it is none."""
    search = _searching(pattern)
    return lambda line: search(line.text)


def field_filter(condition: str) -> Filter:
    """Return a filter by a field of the JSON object in a line: ``logs.level=ERROR``, ``!=``, or ``~`` a regular expression.

    Values are compared as text, numbers and words of JSON as JSON writes them. A line without the field meets only ``!=``.

    Raises:
        ValueError: if it is no such condition.
    """
    found = [(condition.index(sign), -len(sign), sign) for sign in _COMPARISONS if sign in condition]
    if not found or min(found)[0] == 0:
        raise ValueError("give PATH=VALUE, PATH!=VALUE or PATH~REGEX, for example logs.level=ERROR")
    at, _, sign = min(found)
    path, wanted = condition[:at].split("."), condition[at + len(sign) :]
    if sign == "~":
        search = _searching(wanted)
        return lambda line: (text := _field(line.text, path)) is not None and search(text)
    if sign == "!=":
        return lambda line: _field(line.text, path) != wanted
    return lambda line: _field(line.text, path) == wanted


def _by_newlines(data: bytes) -> Iterator[bytes]:
    """Yield lines that end with a newline only: a lone carriage return is part of a line."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end


def _labels(packed: bytes) -> Mapping[str, str]:
    try:
        labels = json.loads(packed) if packed else {}
    except ValueError as error:
        raise CodecError(f"not a segment: header labels: {error}") from error
    return labels if isinstance(labels, dict) else {}


def _searching(pattern: str) -> Callable[[str], bool]:
    compiled = linear_regex(pattern)
    return lambda text: compiled.search(text) is not None


def _field(text: str, path: list[str]) -> str | None:
    value: Any = object_of(text)
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
