"""The messages in ``Meta.Resources``: one resource each, as JSON, under its id in lower case."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from libs.common.errors import CodecError

PRESENT: Final = "present"
MISSING: Final = "missing"
DELETED: Final = "deleted"

NOTHING: Final = msgspec.Raw(b"")
"""In place of JSON that there is not; only this very object is left out of a message."""


class ResourceFacts(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is known of a resource. Times are milliseconds since 1970; the other members are columns of the row type.

    Attributes:
        last_seen: 0 in messages from before there was this member: `time`.
        other: the members that have no place of their own, as a JSON object.
    """

    id: str
    time: int
    first_seen: int
    api_version: str
    type: str
    state: str = PRESENT
    name: str | None = None
    location: str | None = None
    resource_group: str | None = None
    subscription: str | None = None
    tags: Any = None
    properties: msgspec.Raw = NOTHING
    content_hash: str | None = None
    last_seen: int = 0
    other: msgspec.Raw = NOTHING

    @property
    def key(self) -> bytes:
        """Key of its messages."""
        return key_of(self.id)

    def content(self) -> dict[str, Any]:
        """Return what Azure said of it, except for its id and type. Raises `msgspec.MsgspecError`, `RecursionError`."""
        told = {"name": self.name, "location": self.location, "tags": self.tags}
        found = {name: value for name, value in told.items() if value is not None}
        if self.properties:
            found["properties"] = msgspec.json.decode(self.properties)
        return found | (msgspec.json.decode(self.other, type=dict[str, Any]) if self.other else {})


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(ResourceFacts)


def key_of(resource_id: str) -> bytes:
    """Return the key of the messages of a resource: Azure's ids do not depend on case."""
    return resource_id.lower().encode()


def encode_resource(facts: ResourceFacts) -> bytes:
    """Return the value of a message."""
    return _encoder.encode(facts)


def decode_resource(data: bytes) -> ResourceFacts:
    """Return what a message says. Raises `CodecError`."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise CodecError(f"not a resource: {error}") from error
