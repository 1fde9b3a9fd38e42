"""Messages as the bytes of AMQP 0-9-1 frames: a method, a header and the body.

The library makes three objects and three system calls of each message, which costs ten times as much as the bytes. So what is
the same in all messages, and in all with one routing key, is encoded by the library once, and only the rest here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from pika import spec
from pika.frame import Method

LONGEST_TEXT: Final = 255
"""Bytes of a routing key or a message id."""

_MOST_KEYS: Final = 10_000
_MARK: Final = "the id of a message"
_TIME: Final = 0x0102030405060708
_FRAME: Final = struct.Struct(">BHI")
_HEADER: Final = struct.Struct(">HxxQ")
_SECONDS: Final = struct.Struct(">Q")
_END: Final = bytes([spec.FRAME_END])
_FRAME_BYTES: Final = spec.FRAME_HEADER_SIZE + spec.FRAME_END_SIZE
_PERSISTENT: Final = 2


@dataclass(frozen=True, slots=True)
class Kind:
    """What all messages of a sink have in common."""

    content_type: str
    row_type: str
    schema_version: int


class Frames:
    """Encodes messages for one channel of one connection."""

    def __init__(self, channel: int, frame_max: int, exchange: str, kind: Kind, *, mandatory: bool) -> None:
        self._channel = channel
        self._largest = frame_max - _FRAME_BYTES
        self._exchange = exchange
        self._mandatory = mandatory
        self._methods: dict[str, bytes] = {}
        self._before, self._after = _properties(kind)

    def of(self, key: str, message_id: str, seconds: int, body: bytes) -> bytes:
        """Return the frames of one message; `seconds` since 1970."""
        name = message_id.encode()
        properties = b"".join((self._before, bytes((len(name),)), name, _SECONDS.pack(seconds), self._after))
        header = _FRAME.pack(spec.FRAME_HEADER, self._channel, _HEADER.size + len(properties))
        start = (
            self._methods.get(key) or self._method(key),
            header,
            _HEADER.pack(spec.Basic.INDEX, len(body)),
            properties,
            _END,
        )
        if len(body) <= self._largest:
            return b"".join((*start, *self._body(body)))
        pieces = (body[at : at + self._largest] for at in range(0, len(body), self._largest))
        return b"".join((*start, *(part for piece in pieces for part in self._body(piece))))

    def _body(self, piece: bytes) -> tuple[bytes, ...]:
        if not piece:
            return ()
        return _FRAME.pack(spec.FRAME_BODY, self._channel, len(piece)), piece, _END

    def _method(self, key: str) -> bytes:
        if len(self._methods) >= _MOST_KEYS:
            self._methods.clear()
        publish = spec.Basic.Publish(exchange=self._exchange, routing_key=key, mandatory=self._mandatory)
        frame: bytes = Method(self._channel, publish).marshal()
        self._methods[key] = frame
        return frame


def _properties(kind: Kind) -> tuple[bytes, bytes]:
    """Return the properties of messages up to the id, and after the time."""
    encoded = b"".join(
        spec.BasicProperties(
            content_type=kind.content_type,
            headers={"schema-version": str(kind.schema_version)},
            delivery_mode=_PERSISTENT,
            message_id=_MARK,
            timestamp=_TIME,
            type=kind.row_type,
            app_id="blobtide",
        ).encode()
    )
    before, after = encoded.split(bytes([len(_MARK)]) + _MARK.encode() + _SECONDS.pack(_TIME))
    return before, after
