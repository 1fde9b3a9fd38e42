"""The messages in ``Meta.Resources``: one resource each, as JSON, under its id in lower case."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from libs.common.errors import CodecError

PRESENT: Final = "present"
DELETED: Final = "deleted"


class ResourceFacts(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is known of a resource. Times are milliseconds since 1970; the other members are columns of the row type."""

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
    properties: msgspec.Raw = msgspec.Raw(b"")
    content_hash: str | None = None

    @property
    def key(self) -> bytes:
        """Key of its messages."""
        return key_of(self.id)


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
