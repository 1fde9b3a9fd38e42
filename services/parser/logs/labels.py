"""What the labels of segments say about their source, as columns. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import msgspec

from libs.common.messages.segments import Segment

COLUMNS: Final = ("service", "subscription", "environment", "namespace", "pod", "container", "container_id")
"""The labels that have columns; others are resource attributes."""

_KEPT: Final = 4_096
_labels = msgspec.json.Decoder(dict[str, str])


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of one source: those that have columns, and the others as a JSON object."""

    known: Mapping[str, str] = field(default_factory=dict)
    others: str | None = None


@lru_cache(maxsize=_KEPT)
def labels_of(data: bytes) -> Labels:
    """Read the labels of a segment; those that cannot be read say nothing, since the segment's lines do not need them."""
    if not data:
        return Labels()
    try:
        labels = _labels.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Labels()
    others = {name: value for name, value in labels.items() if name not in COLUMNS}
    known = {name: value for name, value in labels.items() if name in COLUMNS}
    return Labels(known, json.dumps(others, ensure_ascii=False, separators=(",", ":")) if others else None)


def label_columns(segments: Sequence[Segment]) -> dict[str, list[str | None]]:
    """Return the values of each label that has a column, and of ``resource_attributes``: one for each segment."""
    found = [labels_of(segment.labels) for segment in segments]
    columns: dict[str, list[str | None]] = {name: [one.known.get(name) for one in found] for name in COLUMNS}
    return columns | {"resource_attributes": [one.others for one in found]}
