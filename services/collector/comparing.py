"""Compare what Azure said of a resource with what it said before: a hash, and what is different. Pure.

Members that Azure changes by itself, such as ``etag``, are left out of both. Lists whose elements have names (or ids) are
compared by these, in any order; other lists as a whole. So the hash differs exactly if something is different.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from itertools import islice
from typing import Any, Final, Self

import msgspec

MOST_PATHS: Final = 1_000
MOST_TEXT: Final = 524_288  # bytes of all differences in a message
MOST_VALUE: Final = 8_192  # bytes of an old or a new value
_DEEPEST: Final = 40  # what is nested more deeply is compared as a whole
_DEPTHS: Final = (_DEEPEST, 6, 4, 2, 1, 0)
_IDENTITY: Final = ("name", "id")
_OF_USERS: Final = "tags"
_NOT_CONTENT: Final = frozenset({"id", "type"})
_ANY: Final = "*"


class ChangeOp(StrEnum):
    """What became of a value."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class PathDifference:
    """A difference at a place.

    Attributes:
        path: a JSON pointer; an element of a list is addressed by its name. Empty: the whole.
        old: JSON text of at most `MOST_VALUE` bytes; None if the value was added.
        new: likewise; None if it was removed.
        old_size, new_size: bytes of their whole texts.
    """

    op: ChangeOp
    path: str
    old: str | None
    new: str | None
    old_size: int | None
    new_size: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What does not count.

    Attributes:
        names: members of that name anywhere, except in the tags of users; lower case.
        paths: members at these places; lower case, ``*`` for any one member or element.
    """

    names: frozenset[str] = frozenset()
    paths: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, ignored: tuple[str, ...]) -> Self:
        """Return the comparison without `ignored`: names, and paths with dots."""
        paths = tuple(tuple(entry.lower().split(".")) for entry in ignored)
        return cls(frozenset(path[0] for path in paths if len(path) == 1), tuple(path for path in paths if len(path) > 1))

    def hash_of(self, content: bytes) -> str:
        """Return the same for the same content, however it is written: lists and single resources are not written alike."""
        try:
            same = _text(self._counting(msgspec.json.decode(content)))
        except (msgspec.MsgspecError, RecursionError):  # a number beyond any float, or nested too deeply
            same = content
        return blake2b(same, digest_size=16).hexdigest()

    def differences(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[PathDifference, ...]:
        """Return what is different. Where there would be very much, larger parts are compared as a whole."""
        pair = self._counting(old), self._counting(new)
        found: tuple[PathDifference, ...] = ()
        for depth in _DEPTHS:
            found = tuple(islice(_differences(pair, "", depth), MOST_PATHS + 1))
            if len(found) <= MOST_PATHS and sum(map(_size, found)) <= MOST_TEXT:
                break
        return found

    def _counting(self, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        told = {name: value for name, value in content.items() if name not in _NOT_CONTENT}
        return _members(told, self.names, self.paths, 0)


_Paths = tuple[tuple[str, ...], ...]


def _members(value: Mapping[str, Any], names: frozenset[str], paths: _Paths, depth: int) -> dict[str, Any]:
    """Return the members that count."""
    kept = {}
    for name, inner in value.items():
        lower = name.lower()
        below = _below(paths, lower)
        if lower in names or () in below:
            continue
        is_free = depth == 0 and lower == _OF_USERS
        kept[name] = _inside(inner, frozenset() if is_free else names, below, depth + 1)
    return kept


def _inside(value: Any, names: frozenset[str], paths: _Paths, depth: int) -> Any:
    if depth >= _DEEPEST:
        return value
    if isinstance(value, dict):
        return _members(value, names, paths, depth)
    if isinstance(value, list):
        named = _named(value)
        if named is None:
            return [_inside(element, names, _below(paths, _ANY), depth + 1) for element in value]
        return [_inside(named[name], names, _below(paths, name.lower()), depth + 1) for name in sorted(named)]
    return value


def _below(paths: _Paths, name: str) -> _Paths:
    """Return the rest of the paths that lead through `name`."""
    return tuple(path[1:] for path in paths if path and path[0] in {name, _ANY}) if paths else ()


def _named(value: list[Any]) -> dict[str, Any] | None:
    """Return the elements of a list by their names, or by their ids; None if some have none, or the same."""
    for member in _IDENTITY:
        found = {name: element for element in value if isinstance(name := _name(element, member), str)}
        if len(found) == len(value):
            return found
    return None


def _name(element: Any, member: str) -> Any:
    return element.get(member) if isinstance(element, dict) else None


def _differences(pair: tuple[Any, Any], path: str, depth: int) -> Iterator[PathDifference]:
    parts = _parts(pair) if depth else None
    if parts is None:
        if _text(pair[0]) != _text(pair[1]):
            yield _difference(ChangeOp.CHANGED, path, *pair)
        return
    old, new = parts
    for name in sorted({*old, *new}):
        place = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
        if name not in new:
            yield _difference(ChangeOp.REMOVED, place, old[name], None)
        elif name not in old:
            yield _difference(ChangeOp.ADDED, place, None, new[name])
        else:
            yield from _differences((old[name], new[name]), place, depth - 1)


def _parts(pair: tuple[Any, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the parts by which two values can be compared; None if they have none."""
    old, new = pair
    if isinstance(old, dict) and isinstance(new, dict):
        return old, new
    if isinstance(old, list) and isinstance(new, list):
        before, after = _named(old), _named(new)
        return None if before is None or after is None else (before, after)
    return None


def _difference(op: ChangeOp, path: str, old: Any, new: Any) -> PathDifference:
    before = None if op is ChangeOp.ADDED else _text(old)
    after = None if op is ChangeOp.REMOVED else _text(new)
    sizes = (None if text is None else len(text) for text in (before, after))
    return PathDifference(op, path, _cut(before), _cut(after), *sizes)


def _cut(text: bytes | None) -> str | None:
    return None if text is None else text[:MOST_VALUE].decode(errors="ignore")


def _text(value: Any) -> bytes:
    return msgspec.json.encode(value, order="deterministic")


def _size(difference: PathDifference) -> int:
    return len(msgspec.json.encode((difference.path, difference.old, difference.new)))
