"""How far each blob of the owned partitions has been read: the newest view of the checkpoint topic, kept as encoded bytes.

A partition may know very many blobs, so keys are held as digests, and values as they travel but without the blob's name, which
is most of them and which whoever asks knows: some 300 bytes a blob, against 530.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from typing import Final

from libs.common.errors import CodecError
from libs.common.events import BlobCheckpoint, decode_event
from libs.common.kafka.records import Inbound

_NOWHERE: Final = 255  # a name stands near the beginning

# Reads partitions to their ends; calls its second argument many times a second meanwhile.
ReadPartitions = Callable[[Collection[int], Callable[[], None]], Iterator[Inbound]]


class Checkpoints:
    """Checkpoints by blob key, grouped by partition."""

    def __init__(self, read: ReadPartitions) -> None:
        self._read = read
        self._partitions: dict[int, dict[bytes, bytes]] = {}

    def load(self, partitions: Collection[int], beat: Callable[[], None]) -> int:
        """Read these partitions anew; return how many blobs they know.

        Blocks until their ends are reached, which may take minutes, and calls `beat` all the while. What `beat` raises is
        raised, and the partitions have to be loaded again.
        """
        self.forget(partitions)
        for number in partitions:
            self._partitions[number] = {}
        for record in self._read(partitions, beat):
            key = record.key or b""
            if record.value is None:
                self._partitions[record.partition].pop(_digest(key), None)
            else:
                self.put(record.partition, key, record.value)
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
        event = decode_event(with_key(key, value))
        if not isinstance(event, BlobCheckpoint):
            raise CodecError(f"the checkpoint topic holds a {type(event).__name__}; is topics.checkpoints right?")
        return event

    def put(self, partition: int, key: bytes, value: bytes) -> None:
        """Replace the checkpoint of a blob by an encoded one."""
        self._partitions[partition][_digest(key)] = without(key, value)


def without(key: bytes, value: bytes) -> bytes:
    """Return `value` without `key`, the first time that it stands there; a byte before says where, or that it does not."""
    at = value.find(key)
    if not 0 <= at < _NOWHERE:
        return bytes((_NOWHERE,)) + value
    return bytes((at,)) + value[:at] + value[at + len(key) :]


def with_key(key: bytes, kept: bytes) -> bytes:
    """Return the value that `without` was given for the same key."""
    at = kept[0]
    return kept[1:] if at == _NOWHERE else kept[1 : at + 1] + key + kept[at + 1 :]


def _digest(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=16).digest()
