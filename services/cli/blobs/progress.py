"""How far the services have come with blobs, from the compacted topics of the monitor and of ingest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from libs.common.errors import CodecError
from libs.common.settings import Settings

if TYPE_CHECKING:
    from libs.common.azure.storage.api import ListedBlob
    from libs.common.kafka.records import Inbound
    from libs.common.messages.events import BlobCheckpoint, BlobState

_T = TypeVar("_T")
_NOT_SEEN: Final = "unseen"
_NOT_READ: Final = "unread"


@dataclass(frozen=True, slots=True)
class BlobProgress:
    """What is known of one blob.

    Attributes:
        state: `open` or `closed`, as the monitor has it; `unseen` before it has announced the blob.
        reading: `open`, `complete` or `incomplete`, as ingest has it; `unread` before it has begun.
        read: bytes of the blob that ingest has read.
        lag: bytes that it has not read; 0 if it has found nothing more to read in this version.
    """

    state: str
    reading: str
    read: int
    lag: int


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    status: str
    read_to: int
    etag: str

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> _Checkpoint:
        # Of a compressed blob, reading continues at an earlier offset than the first that was not read.
        read = fields["next_offset"] if fields["read_offset"] is None else fields["read_offset"]
        return cls(str(fields["status"]), int(read), str(fields["etag"]))


@dataclass(slots=True)
class ProgressOfBlobs:
    """What the topics say of the blobs under some key prefixes, such as ``alias/container/``."""

    starts: tuple[bytes, ...]
    states: dict[bytes, str] = field(default_factory=dict)
    checkpoints: dict[bytes, _Checkpoint] = field(default_factory=dict)

    @classmethod
    def load(cls, settings: Settings, starts: Collection[str]) -> ProgressOfBlobs:
        """Read both topics. Raises ServerUnreachable, ConfigError."""
        from libs.common.kafka.readers.compacted import CompactedTable

        progress = cls(tuple(start.encode() for start in starts))
        topics = settings.topics
        for topic, apply in ((topics.blob_state, progress._state), (topics.checkpoints, progress._checkpoint)):
            with closing(CompactedTable(settings.kafka, topic, apply)) as table:
                table.open()
                table.catch_up()
        return progress

    def of(self, key: bytes, blob: ListedBlob) -> BlobProgress:
        """Return the progress of a blob as it is listed."""
        state, checkpoint = self.states.get(key, _NOT_SEEN), self.checkpoints.get(key)
        if checkpoint is None:
            return BlobProgress(state, _NOT_READ, 0, blob.size)
        lag = 0 if checkpoint.etag == blob.etag else max(0, blob.size - checkpoint.read_to)
        return BlobProgress(state, checkpoint.status, checkpoint.read_to, lag)

    def _state(self, record: Inbound) -> None:
        from libs.common.messages.events import BlobState

        fields = self._fields(record, BlobState)
        _keep(self.states, record, None if fields is None else str(fields["status"]))

    def _checkpoint(self, record: Inbound) -> None:
        from libs.common.messages.events import BlobCheckpoint

        fields = self._fields(record, BlobCheckpoint)
        _keep(self.checkpoints, record, None if fields is None else _Checkpoint.of(fields))

    def _fields(self, record: Inbound, kind: type[BlobState | BlobCheckpoint]) -> dict[str, Any] | None:
        """Return the fields of an event about a blob of interest; None for others, tombstones and what cannot be read."""
        from libs.common.messages.events import read_fields

        if record.value is None or not (record.key or b"").startswith(self.starts):
            return None
        try:
            return read_fields(record.value, kind)
        except CodecError:
            return None


def _keep(values: dict[bytes, _T], record: Inbound, value: _T | None) -> None:
    key = record.key or b""
    if value is not None:
        values[key] = value
    elif record.value is None:
        values.pop(key, None)
