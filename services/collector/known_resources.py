"""The resources that are known, in little memory: some 80 bytes for each and its name, without Python objects. Pure.

Of each resource there is the latest listing that had it, when it was first seen, a hash of its content, the place of its record
in Kafka, and its id, of which everything before the name is kept once for all resources beside it. Whoever lists resources asks
by the path of the list: of a subscription and a type, or of what is directly below a path.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np

from libs.common.messages.resources import MISSING, ResourceFacts
from libs.common.packed import PackedTable, Rows

NOWHERE: Final = 2**64 - 1
"""The offset of a record that was not read yet, because this process has just written it."""

_ROW: Final = np.dtype(
    [
        ("seen", "<u4"),
        ("partition", "<u4"),
        ("offset", "<u8"),
        ("first_seen", "<u8"),
        ("time", "<u8"),
        ("last_seen", "<u8"),
        ("content", "<u8"),
        ("subscription_list", "<u4"),
        ("above", "<u4"),
        ("name", "<u4"),
        ("is_missing", "u1"),
    ]
)
_FORM: Final = struct.Struct("<IIQQQQQIIIB")  # of a row
_PLACE: Final = struct.Struct("<IQ")
_PLACE_AT: Final = 4
_TOLD: Final = ["partition", "offset", "first_seen", "time", "last_seen", "content", "is_missing"]
_LENGTH_BYTES: Final = 3
_LEAST_WASTE: Final = 100_000  # bytes of names


class RecordPlace(NamedTuple):
    """Where the record of a resource is in `Meta.Resources`; the offset may be `NOWHERE`."""

    partition: int
    offset: int


_UNREAD: Final = RecordPlace(0, NOWHERE)


@dataclass(frozen=True, slots=True)
class KnownResource:
    """What is known of a resource.

    Attributes:
        first_seen: milliseconds since 1970, like `time`, when it was seen to be as it is, and `last_seen`.
        content: the beginning of the hash of its content, as a number.
        is_missing: whether a list did not have it, but so much else neither that this is not believed yet.
    """

    first_seen: int
    time: int
    last_seen: int
    content: int
    is_missing: bool
    place: RecordPlace

    @classmethod
    def of(cls, facts: ResourceFacts, place: RecordPlace) -> Self:
        """Return what a record at `place` says."""
        last_seen, is_missing = facts.last_seen or facts.time, facts.state == MISSING
        return cls(facts.first_seen, facts.time, last_seen, _content(facts), is_missing, place)

    def is_same(self, facts: ResourceFacts) -> bool:
        """Return whether `facts` say nothing new."""
        return self.content == _content(facts) and self.is_missing == (facts.state == MISSING)


class ListedResources(NamedTuple):
    """What a list would have: how many that are not `missing`, and those that it lacks, by id."""

    there: int
    lacking: tuple[tuple[str, KnownResource], ...]


class KnownResources:
    """The table. Not thread-safe."""

    def __init__(self) -> None:
        self._table = PackedTable(_ROW)
        self._texts = _Texts()
        self._names = bytearray()  # each after its length
        self._most_names = _LEAST_WASTE

    def __len__(self) -> int:
        """Return their number; resources that have just changed may count twice."""
        return self._table.approximate_length

    def see(self, keys: Sequence[bytes], listing: int) -> list[KnownResource | None]:
        """Return what is known of resources by their keys, and note the listing in which they are."""
        rows, places = self._table.find(keys)
        found = places[places >= 0]
        rows["seen"][found] = listing
        known = map(_known, rows[_TOLD][found].tolist())
        return [None if place < 0 else next(known) for place in places.tolist()]

    def put(self, facts: ResourceFacts, listing: int, place: RecordPlace = _UNREAD) -> None:
        """Add a resource, or replace what is known of it."""
        above, _, name = facts.id.rpartition("/")
        if len(self._names) > self._most_names:
            self._drop_waste()
        numbers = self._texts.number(_list_of_subscription(facts)), self._texts.number(above)
        times = facts.first_seen, facts.time, facts.last_seen or facts.time
        at, is_missing = self._appended(name.encode()), facts.state == MISSING
        self._table.put(facts.key, _FORM.pack(listing, *place, *times, _content(facts), *numbers, at, is_missing))

    def place(self, key: bytes, place: RecordPlace) -> None:
        """Note where the record of a resource is, if the resource is known."""
        row = self._table.get(key)
        if row is not None:
            self._table.put(key, row[:_PLACE_AT] + _PLACE.pack(*place) + row[_PLACE_AT + _PLACE.size :])

    def remove(self, key: bytes) -> None:
        """Forget a resource, if it is known."""
        self._table.remove(key)

    def listed(self, path: str, listing: int) -> ListedResources:
        """Return what the list at `path`, in lower case, would have, and what of it was not seen since `listing`."""
        rows = self._table.rows()
        is_of_list = rows["subscription_list"] == self._texts.known(path)
        for above in self._texts.spellings(path):
            is_of_list |= rows["above"] == above
        lacking = rows[is_of_list & (rows["seen"] < listing)]
        ids = (f"{self._texts.text(above)}/{self._text_at(at)}" for above, at in lacking[["above", "name"]].tolist())
        known = map(_known, lacking[_TOLD].tolist())
        return ListedResources(
            int(is_of_list.sum() - rows["is_missing"][is_of_list].sum()), tuple(zip(ids, known, strict=True))
        )

    def _appended(self, name: bytes | bytearray) -> int:
        at = len(self._names)
        self._names += len(name).to_bytes(_LENGTH_BYTES, "little") + name
        return at

    def _text_at(self, at: int) -> str:
        return _named(self._names, at).decode()

    def _drop_waste(self) -> None:
        """Forget names and other texts that no resource has any more."""
        rows, old, texts = self._table.rows(), self._names, self._texts
        self._names, self._texts = bytearray(), _Texts()
        for column in ("subscription_list", "above"):
            _renumber(rows[column], lambda number: self._texts.number(texts.text(number)))
        for index, at in enumerate(rows["name"].tolist()):
            rows["name"][index] = self._appended(_named(old, at))
        self._most_names = 2 * len(self._names) + _LEAST_WASTE


class _Texts:
    """Texts by number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._texts: list[str] = []
        self._spellings: dict[str, list[int]] = {}  # by lower case, of those that are not written so

    def number(self, text: str) -> int:
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self._texts)
            self._texts.append(text)
            if (lower := text.lower()) != text:
                self._spellings.setdefault(lower, []).append(number)
        return number

    def known(self, text: str) -> int:
        """Return the number of a text; one that none has if it has none."""
        return self._numbers.get(text, len(self._texts))

    def spellings(self, lower: str) -> list[int]:
        """Return the numbers of all texts that are `lower` in lower case."""
        exact = self._numbers.get(lower)
        return self._spellings.get(lower, []) + ([] if exact is None else [exact])

    def text(self, number: int) -> str:
        return self._texts[number]


def _renumber(column: Rows, number: Callable[[int], int]) -> None:
    used, inverse = np.unique(column, return_inverse=True)
    column[:] = np.array([number(int(one)) for one in used], column.dtype)[inverse]


def _known(row: Sequence[int]) -> KnownResource:
    partition, offset, first_seen, time, last_seen, content, is_missing = row
    return KnownResource(first_seen, time, last_seen, content, bool(is_missing), RecordPlace(partition, offset))


def _named(names: bytearray, at: int) -> bytearray:
    begin = at + _LENGTH_BYTES
    return names[begin : begin + int.from_bytes(names[at:begin], "little")]


def _content(facts: ResourceFacts) -> int:
    return int((facts.content_hash or "0")[:16], 16)


def _list_of_subscription(facts: ResourceFacts) -> str:
    """Return the path, in lower case, of the list that has all resources of that type in the subscription."""
    return f"/subscriptions/{facts.subscription}/providers/{facts.type}".lower() if facts.subscription else ""
