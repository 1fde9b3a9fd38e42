"""How far each blob of the owned partitions has been read: the newest view of the checkpoint topic, kept as encoded bytes.

Keys are held as digests and values as they travel, about 500 bytes a blob, since a partition may know very many.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator

from libs.common.errors import CodecError
from libs.common.events import BlobCheckpoint, decode_event
from libs.common.kafka.records import Inbound

ReadPartitions = Callable[[Collection[int]], Iterator[Inbound]]


class Checkpoints:
    """Checkpoints by blob key, grouped by partition."""

    def __init__(self, read: ReadPartitions) -> None:
        self._read = read
        self._partitions: dict[int, dict[bytes, bytes]] = {}

    def load(self, partitions: Collection[int], beat: Callable[[], None]) -> int:
        """Read these partitions anew; return how many blobs they know.

        Blocks until their ends are reached, which may take minutes, and calls `beat` all the while.
        """
        self.forget(partitions)
        for number in partitions:
            self._partitions[number] = {}
        for record in self._read(partitions):
            beat()
            table = self._partitions[record.partition]
            if record.value is None:
                table.pop(_digest(record.key or b""), None)
            else:
                table[_digest(record.key or b"")] = record.value
        return sum(len(self._partitions[number]) for number in partitions)

    def forget(self, partitions: Collection[int]) -> None:
        """Drop these partitions."""
        for number in partitions:
            self._partitions.pop(number, None)

    def get(self, partition: int, key: bytes) -> BlobCheckpoint | None:
        """Return the checkpoint of a blob.

        Raises:
            CodecError: if it was written by a newer version or is broken; going on would read the blob twice.
        """
        value = self._partitions[partition].get(_digest(key))
        if value is None:
            return None
        event = decode_event(value)
        if not isinstance(event, BlobCheckpoint):
            raise CodecError(f"the checkpoint topic holds a {type(event).__name__}; is topics.checkpoints right?")
        return event

    def put(self, partition: int, key: bytes, value: bytes) -> None:
        """Replace the checkpoint of a blob by an encoded one."""
        self._partitions[partition][_digest(key)] = value


def _digest(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=16).digest()
