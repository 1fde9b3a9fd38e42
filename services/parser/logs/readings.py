"""How a format reads lines of some shape: where each of its fields is, and a template for what it does not read. Pure.

All of this is found out once for each shape, not for each line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Final

from services.parser.logs.shapes import MOST_SHAPES, JsonShape, Leaf, Path, Tree

KUBERNETES: Final = "kubernetes"
"""The member that tells of the source, not of the record."""


@dataclass(frozen=True, slots=True)
class RestTemplate:
    """A JSON object with places for the contents of slots: ``texts[0] slot texts[1] ... texts[-1]``."""

    texts: tuple[str, ...]
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fields:
    """What a format reads.

    Attributes:
        places: for each field the members that it may be, of which the first that is there counts.
        ignored: members that say nothing that is not said elsewhere.
        kept: fields that have no column of their own, so that they count as not read.
    """

    places: Mapping[str, tuple[Path, ...]]
    ignored: Collection[Path] = ()
    kept: Collection[str] = ()


@dataclass(frozen=True, eq=False)
class Reading:
    """How lines of one shape are read.

    Attributes:
        format: index of the format in the list of all.
        leaves: the value of each field that is there.
        rest, source_rest: templates for what is not read, of the record and of its source.
        shape: of the lines.
    """

    format: int
    leaves: Mapping[str, Leaf]
    rest: RestTemplate | None
    source_rest: RestTemplate | None
    shape: JsonShape

    def written(self, name: str, text: str) -> tuple[Path, str]:
        """Return the path of a field as it is written, and `text`, which is its content, as JSON."""
        leaf = self.leaves[name]
        path = next(path for path, one in self.shape.members() if one is leaf)
        if isinstance(leaf, int):
            return path, encode_basestring(text) if self.shape.strings[leaf] else text
        return path, leaf.json


Recognize = Callable[[JsonShape], Fields | None]
"""Returns what a format reads in lines of a shape; None if these are not of the format."""


class Readings:
    """The readings of shapes, as far as they are kept."""

    def __init__(self, formats: Sequence[Recognize]) -> None:
        self._formats = formats
        self._kept: dict[tuple[JsonShape, JsonShape | None], Reading] = {}

    def of(self, line: JsonShape, tail: JsonShape | None) -> Reading:
        """Return how lines of a shape are read: by the first format that recognizes them. The last one recognizes all."""
        found = self._kept.get((line, tail))
        if found is None:
            if len(self._kept) >= MOST_SHAPES:
                self._kept.clear()
            found = self._kept[line, tail] = self._read(line if tail is None else line.with_tail(tail))
        return found

    def _read(self, shape: JsonShape) -> Reading:
        for number, recognize in enumerate(self._formats):
            fields = recognize(shape)
            if fields is not None:
                return _reading(number, shape, fields)
        raise AssertionError("the last format recognizes all lines")


def _reading(number: int, shape: JsonShape, fields: Fields) -> Reading:
    chosen: dict[str, Leaf] = {}
    for name, places in fields.places.items():
        leaf = next((shape.leaves[path] for path in places if path in shape.leaves), None)
        if leaf is not None:
            chosen[name] = leaf
    with_column = [leaf for name, leaf in chosen.items() if name not in fields.kept]
    read = {id(leaf) for leaf in (*with_column, *(shape.leaves[path] for path in fields.ignored if path in shape.leaves))}
    rest = dict(_unread(shape.tree, read))
    source: Tree = {}
    for name, member in rest.items():
        if name.lower() == KUBERNETES and isinstance(member, dict):
            source = member
            del rest[name]
            break
    return Reading(number, chosen, _template(rest, shape), _template(source, shape), shape)


def _unread(tree: Tree, read: Collection[int]) -> Iterator[tuple[str, Leaf | Tree]]:
    for name, member in tree.items():
        if not isinstance(member, dict):
            if id(member) not in read:
                yield name, member
        elif inner := dict(_unread(member, read)):
            yield name, inner


def _template(tree: Tree, shape: JsonShape) -> RestTemplate | None:
    if not tree:
        return None
    texts, slots = [""], list[int]()
    _write(tree, shape, texts, slots)
    return RestTemplate(tuple(texts), tuple(slots))


def _write(tree: Tree, shape: JsonShape, texts: list[str], slots: list[int]) -> None:
    opening = "{"
    for name, member in tree.items():
        texts[-1] += f"{opening}{encode_basestring(name)}:"
        opening = ","
        if isinstance(member, dict):
            _write(member, shape, texts, slots)
        elif isinstance(member, int):
            quote = '"' if shape.strings[member] else ""
            texts[-1] += quote
            slots.append(member)
            texts.append(quote)
        else:
            texts[-1] += member.json
    texts[-1] += "}"
