"""An in-memory `storage.api.Container`: blobs with committed blocks, ETags and creation times, and faults on request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from libs.common.azure.storage.api import BlobChanged, BlobGone, BlobInfo, Block, BlockList

EPOCH = datetime(2026, 5, 1, tzinfo=UTC)


@dataclass
class Blob:
    """One blob; `blocks` is empty for one Put Blob and for append blobs."""

    blocks: list[tuple[str, bytes]]
    data: bytes
    etag: str
    created: datetime
    kind: str = "BlockBlob"


class FakeContainer:
    """Answers as Azure does. `before` is called before every request with its name and may change blobs or raise."""

    def __init__(self) -> None:
        self.blobs: dict[str, Blob] = {}
        self.requests: list[str] = []
        self.bytes_read = 0
        self.before: Callable[[str], None] = lambda _: None
        self._changes = 0

    def commit(self, name: str, blocks: list[tuple[str, bytes]], created: datetime | None = None) -> str:
        """Put Block List: new content of these blocks, the creation time of the blob that was there, a new ETag."""
        old = self.blobs.get(name)
        self._changes += 1
        blob = Blob(
            list(blocks),
            b"".join(data for _, data in blocks),
            f"0x{self._changes:X}",
            created or (old.created if old else EPOCH),
        )
        self.blobs[name] = blob
        return blob.etag

    def put(self, name: str, data: bytes, kind: str = "BlockBlob", created: datetime | None = None) -> str:
        """Put Blob, or the content of an append blob: no block list."""
        etag = self.commit(name, [], created)
        self.blobs[name].data = data
        self.blobs[name].kind = kind
        return etag

    def touch(self, name: str) -> str:
        """Change metadata only."""
        self._changes += 1
        self.blobs[name].etag = f"0x{self._changes:X}"
        return self.blobs[name].etag

    def recreate(self, name: str, blocks: list[tuple[str, bytes]]) -> str:
        """Delete and make again, later."""
        return self.commit(name, blocks, self.blobs[name].created + timedelta(hours=1))

    def probe(self) -> datetime | None:
        """Tell no time: nobody asks."""

    def list_blobs(self, prefix: str) -> Iterator[BlobInfo]:
        """Yield the blobs under `prefix`."""
        yield from (self.info(name) for name in sorted(self.blobs) if name.startswith(prefix))

    def list_directories(self, prefix: str, delimiter: str = "/") -> Iterator[str]:
        """Yield nothing: nobody asks."""
        del prefix, delimiter
        yield from ()

    def info(self, name: str) -> BlobInfo:
        """Return the current state of one blob."""
        blob = self._find("info", name)
        return BlobInfo(name, blob.etag, len(blob.data), blob.kind, EPOCH, blob.created)

    def block_list(self, name: str) -> BlockList:
        """Return the committed block list."""
        blob = self._find("block_list", name)
        return BlockList(blob.etag, len(blob.data), EPOCH, tuple(Block(i, len(data)) for i, data in blob.blocks))

    def read(self, name: str, start: int, end: int, etag: str) -> bytes:
        """Return a range of the version `etag`, or of the newest."""
        if start == end:
            return b""
        blob = self._find("read", name)
        if etag and blob.etag != etag:
            raise BlobChanged(name)
        assert 0 <= start < end <= len(blob.data)
        self.bytes_read += end - start
        return blob.data[start:end]

    def close(self) -> None:
        """Nothing to close."""

    def _find(self, request: str, name: str) -> Blob:
        self.before(request)
        self.requests.append(request)
        if name not in self.blobs:
            raise BlobGone(name)
        return self.blobs[name]
