"""Read the body of a response with limits: of its decompressed size, and of the time for all of it, however slowly it comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import urllib3
from urllib3.exceptions import HTTPError

_CHUNK: Final = 65_536


class BodyTooSlow(HTTPError):
    """The body did not end in time."""


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
    try:
        while size <= most:
            if clock() > until:
                raise BodyTooSlow("the body did not end in time")
            part = response.read1(min(_CHUNK, most + 1 - size))
            if not part:
                return b"".join(parts), False
            parts.append(part)
            size += len(part)
        return b"".join(parts)[:most], True
    finally:
        response.close()  # of a body that was read to its end, the connection has been returned to the pool already
