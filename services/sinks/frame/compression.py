"""How request bodies are compressed."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from isal import isal_zlib

_GZIP: Final = 31  # 32 KB window, gzip header; the header has no time, so equal bodies stay equal


class Compression(StrEnum):
    """How request bodies are compressed."""

    NONE = "none"
    GZIP = "gzip"

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request that say so."""
        return {"Content-Encoding": self.value} if self is Compression.GZIP else {}

    def apply(self, buffers: Iterable[bytes | memoryview]) -> bytes:
        """Return the concatenated buffers, compressed."""
        if self is Compression.NONE:
            return b"".join(buffers)
        stream = isal_zlib.compressobj(1, wbits=_GZIP)
        return b"".join([*map(stream.compress, buffers), stream.flush()])
