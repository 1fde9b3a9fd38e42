"""What has become of resources of Azure, as `up` shows it: a line for each, or one for many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from libs.common.errors import CodecError
from libs.common.kafka.readers.follow import Follower
from libs.common.messages.resources import DELETED, ResourceFacts, decode_resource

MOST_LINES: Final = 6


class ResourceNews:
    """What `follower` brings from the topic of resources."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    def lines(self) -> list[str]:
        """Return what is new since the last call. Raises `BlobtideError` if Kafka does not answer."""
        seen = [facts for record in self._follower.poll(0.2) if (facts := _decoded(record.value)) is not None]
        if len(seen) <= MOST_LINES:
            return [f"{_what(facts):8} {_name(facts)} ({facts.type})" for facts in seen]
        return list(_counted(seen))


def _decoded(value: bytes | None) -> ResourceFacts | None:
    try:
        return decode_resource(value or b"")
    except CodecError:
        return None


def _counted(seen: list[ResourceFacts]) -> Iterator[str]:
    """Yield a line for each thing that has happened to many."""
    for what in dict.fromkeys(map(_what, seen)):
        kinds = Counter(facts.type.rpartition("/")[2] for facts in seen if _what(facts) == what)
        named = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        yield f"{what:8} {kinds.total()} resources: {named}"


def _name(facts: ResourceFacts) -> str:
    return facts.name or facts.id.rpartition("/")[2]


def _what(facts: ResourceFacts) -> str:
    if facts.state == DELETED:
        return "gone"
    return "new" if facts.first_seen == facts.time else "changed"
