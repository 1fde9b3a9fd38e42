"""What the kernel is told about all lines: how to read them, and in which stream they are. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.parser.dictionary_columns import Rows
from services.parser.logs.joining import Joining
from services.parser.logs.lines import Lines


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How logs are read.

    Attributes:
        fields: members of JSON and logfmt lines for columns, before those that are known anyway; dots separate names of
            nested members.
        joining: which lines are one record.
        w3c_fields: fields of W3C lines in a segment that does not say them itself.
        spans: whether requests that can be followed also become spans.
    """

    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    joining: Joining = field(default_factory=Joining)
    w3c_fields: tuple[str, ...] = ()
    spans: bool = True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All lines, and when each of their segments was observed, in nanoseconds since 1970."""

    lines: Lines
    observed: Rows
    options: LogOptions
