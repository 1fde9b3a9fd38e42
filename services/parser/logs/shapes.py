"""The shape of a line: its skeleton, understood. Pure.

A skeleton is understood by filling its slots with their numbers and decoding it as JSON. That also proves that the slots are
where values are: nothing but the contents of slots remains to be checked. Shapes are kept, since the next lines have the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

import msgspec

MOST_SHAPES: Final = 1_024
DEEPEST: Final = 64
"""Maximum nesting of objects in a line."""
NOT_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_LONGEST_KEPT: Final = 16_384  # bytes of a skeleton, or of an object

_MARK: Final = "\ue000"
_QUOTED_MARK: Final = f'"{_MARK}'

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_string: Final = msgspec.json.Decoder(str)


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that is the same in many lines: what it says, None if that is null, and as it is written."""

    text: str | None
    json: str


Path: TypeAlias = tuple[str, ...]
Leaf: TypeAlias = int | Constant
"""A value: the number of a slot, or what it is."""
Tree: TypeAlias = "dict[str, Leaf | Tree]"
"""The members of an object."""


@dataclass(frozen=True, eq=False)
class JsonShape:
    """The shape of lines.

    Attributes:
        tree: the members of the line's object.
        strings: for each slot, whether it holds a string.
    """

    tree: Tree
    strings: tuple[bool, ...] = ()

    @cached_property
    def leaves(self) -> Mapping[Path, Leaf]:
        """All values, by their paths in lower case: the original of this parser told no letters' case apart."""
        found: dict[Path, Leaf] = {}
        for path, leaf in self.members():
            found.setdefault(tuple(name.lower() for name in path), leaf)
        return found

    @cached_property
    def objects(self) -> frozenset[Path]:
        """The paths of all objects, in lower case."""
        return frozenset(tuple(name.lower() for name in path) for path in _objects(self.tree))

    def members(self) -> Iterator[tuple[Path, Leaf]]:
        """Yield all values with their paths, as they are written."""
        yield from _leaves(self.tree)

    def with_tail(self, tail: JsonShape) -> JsonShape:
        """Return the shape of lines that also have the members of another shape, all of which are constant."""
        return JsonShape(self.tree | tail.tree, self.strings)


class Shapes:
    """The shapes of skeletons and of whole objects, as far as they are kept."""

    def __init__(self, most: int = MOST_SHAPES) -> None:
        self._most = most
        self._of_skeletons: dict[bytes, JsonShape | None] = {}
        self._of_objects: dict[bytes, JsonShape | None] = {}

    def of_skeleton(self, skeleton: bytes, gaps: Callable[[], Sequence[bytes]]) -> JsonShape | None:
        """Return the shape of a skeleton; None if its slots are not where values are. `gaps` returns what is between them."""
        return self._kept(self._of_skeletons, skeleton, lambda: _understood(gaps()))

    def of_object(self, text: bytes) -> JsonShape | None:
        """Return the shape of an object whose values are constant; None if it is none."""
        return self._kept(self._of_objects, text, lambda: constant(text))

    def _kept(self, kept: dict[bytes, JsonShape | None], key: bytes, find: Callable[[], JsonShape | None]) -> JsonShape | None:
        if key in kept:
            return kept[key]
        shape = find()
        if len(key) <= _LONGEST_KEPT:
            if len(kept) >= self._most:
                kept.clear()  # shapes that do not recur: none is worth more than another
            kept[key] = shape
        return shape


def constant(text: bytes) -> JsonShape | None:
    """Return the shape of an object whose values are constant; None if it is no object."""
    try:
        return JsonShape(_constants(text, DEEPEST))
    except NOT_JSON:
        return None


def _constants(text: bytes, depth: int) -> Tree:
    tree: Tree = {}
    for name, member in _members.decode(text).items():
        value = bytes(member)
        is_object = value.startswith(b"{") and depth > 0
        tree[name] = _constants(value, depth - 1) if is_object else Constant(_text(value), value.decode())
    return tree


def _text(value: bytes) -> str | None:
    if value == b"null":
        return None
    return _string.decode(value) if value.startswith(b'"') else value.decode()


def _understood(gaps: Sequence[bytes]) -> JsonShape | None:
    strings = tuple(gap.endswith(b'"') for gap in gaps[:-1])
    parts: list[str] = []
    try:
        for number, (gap, is_string) in enumerate(zip(gaps, strings, strict=False)):
            parts += (gap.decode(), f"{_MARK}{number}" if is_string else f'{_QUOTED_MARK}{number}"')
        tree = _numbered(msgspec.json.decode("".join((*parts, gaps[-1].decode())), type=dict[str, Any]), DEEPEST)
    except (*NOT_JSON, _NotUnderstood):
        return None
    in_order = [slot for _, slot in _leaves(tree)] == list(range(len(strings)))
    return JsonShape(tree, strings) if in_order else None


class _NotUnderstood(Exception):
    """A value is no slot."""


def _numbered(members: dict[str, Any], depth: int) -> Tree:
    """Return an object with numbers for marks."""
    tree: Tree = {}
    for name, value in members.items():
        if isinstance(value, dict) and depth:
            tree[name] = _numbered(value, depth - 1)
        elif isinstance(value, str) and value.startswith(_MARK):
            tree[name] = int(value.removeprefix(_MARK))
        else:
            raise _NotUnderstood
    return tree


def _leaves(tree: Tree, above: Path = ()) -> Iterator[tuple[Path, Leaf]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _objects(tree: Tree, above: Path = ()) -> Iterator[Path]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield (*above, name)
            yield from _objects(value, (*above, name))
