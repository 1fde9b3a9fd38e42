"""What the lines that were looked at have in common: how many, how long, of which services, with which fields and levels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from services.cli.explore.lines import Line, object_of

_SHOWN: Final = 10
_MOST_DISTINCT: Final = 10_000  # a field or level from a stranger must not fill the memory
_LEVELS: Final = ("level", "severity", "Level", "logs.level")


@dataclass(slots=True)
class Analysis:
    """Sums over lines."""

    lines: int = 0
    bytes: int = 0
    longest: int = 0
    objects: int = 0
    services: Counter[str] = field(default_factory=Counter)
    blobs: Counter[str] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)
    fields: Counter[str] = field(default_factory=Counter)

    def add(self, line: Line) -> None:
        """Add a line."""
        size = len(line.text)
        self.lines, self.bytes, self.longest = self.lines + 1, self.bytes + size, max(self.longest, size)
        _count(self.services, line.labels.get("service", "-"))
        _count(self.blobs, line.segment.blob)
        content = object_of(line.text)
        if content is None:
            return
        self.objects += 1
        found = dict(_paths(content))
        for path in found:
            _count(self.fields, path)
        level = next((found[path] for path in _LEVELS if isinstance(found.get(path), str)), None)
        if level is not None:
            _count(self.levels, level)

    def values(self) -> dict[str, Any]:
        """Return it as JSON has it: the most frequent of each."""
        counters = {"services": self.services, "levels": self.levels, "fields": self.fields, "blobs": self.blobs}
        return {
            "lines": self.lines,
            "characters": self.bytes,
            "longest": self.longest,
            "json_objects": self.objects,
            **{name: dict(counter.most_common(_SHOWN)) for name, counter in counters.items()},
        }

    def text(self) -> Iterator[str]:
        """Yield it for people."""
        values = self.values()
        mean = self.bytes // self.lines if self.lines else 0
        yield f"{self.lines:,} lines, {mean:,} characters on average, at most {self.longest:,}; {self.objects:,} JSON objects"
        for name in ("services", "levels", "fields", "blobs"):
            if values[name]:
                yield f"{name}:"
                yield from (f"  {count:8,}  {text}" for text, count in values[name].items())


def _count(counter: Counter[str], text: str) -> None:
    if text in counter or len(counter) < _MOST_DISTINCT:
        counter[text] += 1


def _paths(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields of an object and of the objects directly in it."""
    for name, value in content.items():
        if isinstance(value, dict) and not before:
            yield from _paths(value, f"{name}.")
        else:
            yield f"{before}{name}", value
