"""Which names a source or one of its selectors takes, and what they say: stream and labels. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.common.messages.events import Stream
from libs.common.messages.labels import MOST_LABEL_BYTES, Labels, pack_labels
from libs.common.settings.name_pattern import NamePattern
from libs.common.settings.selectors import SelectorSettings
from libs.common.settings.storage import NameLayout, Source
from services.blob_monitor.globs import compile_globs

_DAY = re.compile(r"[0-9]{8}")
_DAY_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Filter:
    """Globs on a text."""

    include: re.Pattern[str] | None
    exclude: re.Pattern[str] | None

    def accepts(self, text: str) -> bool:
        """Return whether `text` is included and not excluded."""
        if self.include is not None and self.include.fullmatch(text) is None:
            return False
        return self.exclude is None or self.exclude.fullmatch(text) is None


@dataclass(frozen=True, slots=True)
class Tail:
    """What a selector wants to follow the prefix of its source, or a day there. The server lists by it."""

    text: str
    start: int  # in the name
    day_start: int | None  # of the day that comes before it; None: none does

    def fits(self, name: str) -> bool:
        """Return whether `name`, which has the prefix, continues like this."""
        if not name.startswith(self.text, self.start):
            return False
        return self.day_start is None or _DAY.fullmatch(name, self.day_start, self.start) is not None

    def meets(self, other: Tail) -> bool:
        """Return whether a name may fit both."""
        return self.text.startswith(other.text) or other.text.startswith(self.text)


@dataclass(frozen=True, slots=True)
class NameRule:
    """Takes some of the names under a prefix: those of a source, or those of one of its selectors."""

    stream: Stream
    whole: Filter  # on the name
    pattern: NamePattern | None = None
    selector: str = ""  # empty: none
    tail: Tail | None = None  # of a selector
    conditions: tuple[tuple[str, Filter], ...] = ()  # on parts of the name; a name without that part meets none

    def accepts(self, name: str) -> bool:
        """Return whether a name under the prefix is taken."""
        if (self.tail is not None and not self.tail.fits(name)) or not self.whole.accepts(name):
            return False
        if not self.conditions:
            return True
        parts = self._parts(name)
        return all(part in parts and wanted.accepts(parts[part]) for part, wanted in self.conditions)

    def may_take_from(self, other: NameRule) -> bool:
        """Return whether both could accept the same name, as far as prefixes tell."""
        return self.tail is None or other.tail is None or self.tail.meets(other.tail)

    def labels(self, name: str, place: Labels) -> Labels:
        """Return the labels of a name that is taken: none without a selector and a pattern. `place`: those of the environment.

        If a strange name makes them too long for a message, they are without the parts of the name.
        """
        if not self.selector and self.pattern is None:
            return {}
        known = {"service": self.selector, **place} if self.selector else place
        labels = {**known, **self._parts(name)}
        return labels if len(pack_labels(labels)) <= MOST_LABEL_BYTES else known

    def _parts(self, name: str) -> Mapping[str, str]:
        return (self.pattern.parts(name) if self.pattern is not None else None) or {}


def rule_of_source(source: Source) -> NameRule:
    """Return the rule of a source without selectors.

    Raises:
        ConfigError: a glob is malformed.
    """
    return NameRule(source.stream, _filter(source.include, source.exclude), source.names)


def rules_of_selectors(source: Source) -> tuple[NameRule, ...]:
    """Return the rules of the selectors of a source, in order.

    Raises:
        ConfigError: a glob is malformed.
    """
    whole, pattern = _filter(source.include, source.exclude), source.names
    start, has_days = len(source.prefix), source.times is NameLayout.DATED
    return tuple(
        NameRule(
            selector.stream or source.stream,
            whole,
            pattern,
            selector.name,
            Tail(selector.prefix, start + _DAY_LENGTH if has_days else start, start if has_days else None),
            _conditions(selector),
        )
        for selector in source.selectors
    )


def _conditions(selector: SelectorSettings) -> tuple[tuple[str, Filter], ...]:
    return tuple((part, _filter(wanted, unwanted)) for part, (wanted, unwanted) in selector.conditions().items())


def _filter(include: Sequence[str], exclude: Sequence[str]) -> Filter:
    return Filter(compile_globs(include) if include else None, compile_globs(exclude) if exclude else None)
