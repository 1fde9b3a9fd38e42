"""Divide what leaves in messages into groups that fit into one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def groups_within(items: Iterable[T], size: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Yield consecutive items whose sizes together are at most `most`; one that is larger is a group of its own."""
    group: list[T] = []
    held = 0
    for item in items:
        own = size(item)
        if group and held + own > most:
            yield group
            group, held = [], 0
        group.append(item)
        held += own
    if group:
        yield group
