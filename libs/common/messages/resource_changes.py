"""The messages in ``Meta.ResourceChanges``: what has become of one resource, as JSON, under its id in lower case."""

from __future__ import annotations

from typing import Final

import msgspec

from libs.common.errors import CodecError
from libs.common.messages.resources import key_of

CREATED: Final = "created"
DELETED: Final = "deleted"
CHANGED: Final = "changed"
UNKNOWN: Final = "unknown"


class PathChange(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What has become of one value; the members are columns of the row type."""

    change: str
    path: str
    old: str | None = None
    new: str | None = None
    old_size: int | None = None
    new_size: int | None = None


class ResourceChange(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What has become of a resource. The time is milliseconds since 1970; the other members are columns of the row type.

    Attributes:
        paths: if it has changed, in which values; empty otherwise.
    """

    id: str
    time: int
    type: str
    api_version: str
    change: str
    message_id: str
    request_index: int
    name: str | None = None
    resource_group: str | None = None
    subscription: str | None = None
    old_hash: str | None = None
    new_hash: str | None = None
    paths: tuple[PathChange, ...] = ()

    @property
    def key(self) -> bytes:
        """Key of its message."""
        return key_of(self.id)


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(ResourceChange)


def encode_change(change: ResourceChange) -> bytes:
    """Return the value of a message."""
    return _encoder.encode(change)


def decode_change(data: bytes) -> ResourceChange:
    """Return what a message says. Raises `CodecError`."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise CodecError(f"not a change of a resource: {error}") from error
