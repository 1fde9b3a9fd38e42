"""Read InfluxDB's line protocol as its servers do, which differ about backslashes: written from their specifications.

For versions 1 and 2, a backslash escapes only what has to be escaped, and else stands for itself. `escaping`: for version 3 and
VictoriaMetrics, it also escapes itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Point:
    """A point."""

    measurement: str
    tags: Mapping[str, str]
    fields: Mapping[str, Any]
    time: int

    @property
    def key(self) -> tuple[str, tuple[tuple[str, str], ...], int]:
        """What a server keeps one point of."""
        return self.measurement, tuple(sorted(self.tags.items())), self.time


def parse(text: str, *, escaping: bool = False) -> list[Point]:
    """Return the points of some lines."""
    assert text.endswith("\n") or not text
    return [parse_line(line, escaping=escaping) for line in text.split("\n")[:-1]]


def parse_line(line: str, *, escaping: bool = False) -> Point:
    """Return the point of a line. Raises ValueError if it is none."""
    reader = _Reader(line, escaping)
    measurement = reader.text(", ", ", ")
    tags = {}
    while reader.takes(","):
        key = reader.text("=", ",= ")
        reader.expect("=")
        value = reader.text(", ", ",= ")
        if not value or key in tags:
            raise ValueError(f"tag {key} is empty or there twice")
        tags[key] = value
    reader.expect(" ")
    fields: dict[str, Any] = {}
    while True:
        key = reader.text("=", ",= ")
        reader.expect("=")
        if key in fields:
            raise ValueError(f"field {key} is there twice")
        fields[key] = reader.value()
        if not reader.takes(","):
            break
    reader.expect(" ")
    return Point(measurement, tags, fields, int(reader.rest()))


class _Reader:
    def __init__(self, line: str, escaping: bool) -> None:  # noqa: FBT001
        self._line = line
        self._at = 0
        self._escaping = escaping

    def text(self, ends: str, escapable: str) -> str:
        found = []
        while self._at < len(self._line) and (character := self._line[self._at]) not in ends:
            following = self._line[self._at + 1 : self._at + 2]
            if character == "\\" and following and (following in escapable or (self._escaping and following == "\\")):
                character = following
                self._at += 1
            found.append(character)
            self._at += 1
        return "".join(found)

    def value(self) -> Any:
        if self.takes('"'):
            found = []
            while not self.takes('"'):
                character = self._line[self._at]
                if character == "\\" and self._line[self._at + 1] in '"\\':
                    self._at += 1
                    character = self._line[self._at]
                found.append(character)
                self._at += 1
            return "".join(found)
        text = self.text(", ", "")
        if text in {"true", "false"}:
            return text == "true"
        if text.endswith("i"):
            number = int(text[:-1])
            if not -(2**63) <= number < 2**63:
                raise ValueError(f"{number} is no 64-bit integer")
            return number
        return float(text)

    def takes(self, character: str) -> bool:
        taken = self._line.startswith(character, self._at)
        self._at += taken
        return taken

    def expect(self, character: str) -> None:
        if not self.takes(character):
            raise ValueError(f"no {character!r} at {self._at} of {self._line!r}")

    def rest(self) -> str:
        return self._line[self._at :]


def tag_of(value: str) -> str:
    """Return what a tag's text becomes: control characters and unclear backslashes are visible."""
    shown = _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", value)
    return re.sub(r"\\(?=[,= \\]|\Z)", lambda _: "\\u005c", shown)


def field_of(value: str) -> str:
    """Return what a text field becomes: line breaks are visible."""
    return value.replace("\n", "\\u000a")


def as_point(row: Mapping[str, Any], tags: Iterable[str], times: Mapping[str, int]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the tags and fields of a row; `times` has how many nanoseconds a tick of a column of times has."""
    tagged = {name: tag_of(row[name]) for name in tags if row[name]}
    fields = {
        name: value * times[name] if name in times else field_of(value) if isinstance(value, str) else value
        for name, value in row.items()
        if name not in tags and value is not None
    }
    return tagged, fields
