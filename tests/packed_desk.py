"""A desk at which compressed blobs are read, and the lines in them."""

from __future__ import annotations

from typing import Any

from libs.common.messages.events import BlobCheckpoint, Stream
from services.ingest.reading.decoders import Decoders
from tests.blob_reading import Desk


def lines(begin: int, end: int) -> bytes:
    """Return numbered lines that hardly compress alike."""
    return b"".join(b"2026-05-01T12:00:00Z line %d %x\n" % (n, n * 2_654_435_761 % 2**32) for n in range(begin, end))


def a_desk(**more: Any) -> Desk:
    """Return a desk that keeps decoders."""
    return Desk(stream=Stream.APPLICATION_LOGS, **{"decoders": Decoders(10_000_000), **more})


def put(desk: Desk, data: bytes, **more: Any) -> Desk:
    """Put an append blob and read it."""
    desk.container.put(desk.name, data, kind="AppendBlob")
    desk.read(**more)
    return desk


def known(desk: Desk) -> BlobCheckpoint:
    """Return the checkpoint, which there is."""
    assert desk.checkpoint is not None
    return desk.checkpoint


def codes(desk: Desk) -> list[str]:
    """Return the codes of all dead letters."""
    return [letter.code.value for letter in desk.dead_letters]
