"""What has become of resources of Azure, as `up` shows it: a line for each, or one for many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from libs.common.errors import CodecError
from libs.common.kafka.readers.follow import Follower
from libs.common.messages.resource_changes import CREATED, DELETED, PathChange, ResourceChange, decode_change

MOST_LINES: Final = 6
MOST_PATHS: Final = 2  # of one resource
_WHAT: Final[Mapping[str, str]] = MappingProxyType({CREATED: "new", DELETED: "gone"})
_LONGEST: Final = 60  # characters of a value


class ResourceNews:
    """What `follower` brings from the topic of changes."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    def lines(self) -> list[str]:
        """Return what is new since the last call. Raises `BlobtideError` if Kafka does not answer."""
        seen = [change for record in self._follower.poll(0.2) if (change := _decoded(record.value)) is not None]
        return list(_each(seen) if len(seen) <= MOST_LINES else _counted(seen))


def _decoded(value: bytes | None) -> ResourceChange | None:
    try:
        return decode_change(value or b"")
    except CodecError:
        return None


def _each(seen: Iterable[ResourceChange]) -> Iterator[str]:
    """Yield a line for each resource, and one for each of the first values that have changed in it."""
    for change in seen:
        yield f"{_what(change):8} {change.name or change.id.rpartition('/')[2]} ({change.type})"
        yield from (f"{'':8}   {_path(path)}" for path in change.paths[:MOST_PATHS])
        if len(change.paths) > MOST_PATHS:
            yield f"{'':8}   and {len(change.paths) - MOST_PATHS} more"


def _counted(seen: list[ResourceChange]) -> Iterator[str]:
    """Yield a line for each thing that has happened to many."""
    for what in dict.fromkeys(map(_what, seen)):
        kinds = Counter(change.type.rpartition("/")[2] for change in seen if _what(change) == what)
        named = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        yield f"{what:8} {kinds.total()} resources: {named}"


def _what(change: ResourceChange) -> str:
    return _WHAT.get(change.change, "changed")


def _path(path: PathChange) -> str:
    old, new = ("nothing" if value is None else _shortened(value) for value in (path.old, path.new))
    return f"{path.path}: {old} -> {new}"


def _shortened(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 3]}..."
