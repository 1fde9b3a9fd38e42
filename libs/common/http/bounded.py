"""Read the body of a response with limits: of its decompressed size, and of the time for all of it, however slowly it comes.

A body in gzip is complete only with its checksum, which urllib3 does not miss: cut off before it, all of the text may be there,
and nobody would know whether it is right.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from typing import Final

import urllib3
from urllib3.exceptions import DecodeError, HTTPError

_CHUNK: Final = 65_536
_GZIP: Final = frozenset({"gzip", "x-gzip"})
_MAGIC: Final = 0x1F  # a member begins with it
_MEMBER: Final = 16 + zlib.MAX_WBITS


class BodyTooSlow(HTTPError):
    """The body did not end in time."""


class BodyCutOff(HTTPError):
    """The compressed body ends before its checksum."""


def read_at_most(
    response: urllib3.BaseHTTPResponse, most: int, until: float, clock: Callable[[], float] = time.monotonic
) -> tuple[bytes, bool]:
    """Return the body, or its first `most` bytes, and whether there is more; ``preload_content`` of `response` is False.

    Raises:
        BodyTooSlow: if it did not end `until` (on `clock`).
        HTTPError: if it is cut off, or cannot be decompressed.
    """
    parts: list[bytes] = []
    size = 0
    read = _Gunzip(response).read1 if response.headers.get("Content-Encoding", "").lower() in _GZIP else response.read1
    try:
        while size <= most:
            if clock() > until:
                raise BodyTooSlow("the body did not end in time")
            part = read(min(_CHUNK, most + 1 - size))
            if part is None:
                continue
            if not part:
                return b"".join(parts), False
            parts.append(part)
            size += len(part)
        return b"".join(parts)[:most], True
    finally:
        response.close()  # of a body that was read to its end, the connection has been returned to the pool already


class _Gunzip:
    """Reads a body in gzip: members, each with its checksum. What follows the last one is ignored."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        self._member = zlib.decompressobj(_MEMBER)
        self._waiting = b""  # compressed
        self._has_begun = False
        self._is_over = False

    def read1(self, most: int) -> bytes | None:
        """Return up to `most` bytes of text; none at the end, and None if there are none yet. Raises `HTTPError`."""
        data = self._waiting or self._response.read1(_CHUNK, decode_content=False)
        if data:
            return self._decoded(data, most) or None
        if self._has_begun and not self._member.eof:
            raise BodyCutOff("the body is cut off before its checksum")
        return b""

    def _decoded(self, data: bytes, most: int) -> bytes:
        if self._member.eof:
            self._is_over = self._is_over or data[0] != _MAGIC
            self._member = self._member if self._is_over else zlib.decompressobj(_MEMBER)
        if self._is_over:
            self._waiting = b""
            return b""
        self._has_begun = True
        try:
            text = self._member.decompress(data, most)
        except zlib.error as error:
            raise DecodeError(f"the body is damaged: {error}") from error
        self._waiting = self._member.unconsumed_tail or self._member.unused_data
        return text
