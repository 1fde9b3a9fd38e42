"""Blob ids and the partitioner.

A blob is identified by account alias, container and blob name. The alias is the configured name of a storage account
(``<subscription>.<environment>``), so that no message can ever choose a host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from libs.common.errors import CodecError

_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
CONTAINER_PATTERN = r"^(?:\$logs|\$root|[a-z0-9](?:-?[a-z0-9]){2,62})$"
_CONTAINER = re.compile(CONTAINER_PATTERN)
_MAX_BLOB_NAME = 1024

_MURMUR_SEED = 0x9747B28C
_MURMUR_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, order=True)
class BlobId:
    """The id of a blob: configured account alias, container, blob name. `str()` gives ``alias/container/name``."""

    account: str
    container: str
    name: str

    def __str__(self) -> str:
        return f"{self.account}/{self.container}/{self.name}"

    @property
    def key(self) -> bytes:
        """The Kafka key of everything about this blob."""
        return str(self).encode()

    @classmethod
    def parse(cls, text: str) -> BlobId:
        """Parse ``alias/container/name``.

        Raises:
            CodecError: a part is missing, or is not a valid name in Azure or in the configuration.
        """
        account, _, rest = text.partition("/")
        container, _, name = rest.partition("/")
        if not _ALIAS.fullmatch(account) or not _CONTAINER.fullmatch(container) or not 0 < len(name) <= _MAX_BLOB_NAME:
            raise CodecError(f"not a blob id (account/container/name): {text[:200]!r}")
        return cls(account, container, name)


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that librdkafka's ``murmur2_random`` (and Java's default) assigns to a non-empty `key`."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    length = len(data)
    h = _MURMUR_SEED ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _MURMUR_M & _MASK
        k = (k ^ k >> 24) * _MURMUR_M & _MASK
        h = h * _MURMUR_M & _MASK ^ k
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _MURMUR_M & _MASK
    h = (h ^ h >> 13) * _MURMUR_M & _MASK
    return h ^ h >> 15
