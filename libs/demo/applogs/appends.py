"""Make appends: to append blobs, or to files in a directory. A demo that runs again appends only what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from libs.common.azure.storage.api import BlobChanged
from libs.common.azure.storage.writer import Target
from libs.common.errors import ConfigError
from libs.common.messages.blobs import BlobId
from libs.demo.applogs.fleet import MemberAppend


class AppendStorage(Protocol):
    """Where blobs grow at their end: a `BlobWriter` or a `Directory`."""

    def size(self, target: Target) -> int:
        """Return the size of a blob; 0 if there is none."""

    def append_at(self, target: Target, offset: int, data: bytes) -> None:
        """Append to a blob of the size `offset`. Raises `BlobChanged` if it has another size."""

    def close(self) -> None:
        """End waits between retries."""


class Appends:
    """Appends at known offsets, so that repeating one changes nothing."""

    def __init__(self, storage: AppendStorage) -> None:
        self._storage = storage
        self._sizes: dict[int, tuple[BlobId, int]] = {}  # of each pod's blob when first seen

    def write(self, commit: MemberAppend) -> bool:
        """Make `commit`; return False if the blob has it already.

        Raises:
            BlobChanged: the blob has been written by somebody else, or with other options.
        """
        target = Target(commit.blob.container, commit.blob.name)
        blob, size = self._sizes.get(commit.source, (None, 0))
        if blob != commit.blob:
            size = self._storage.size(target)
            self._sizes[commit.source] = commit.blob, size
        if commit.offset + commit.size <= size:
            return False
        self._storage.append_at(target, commit.offset, commit.data)
        return True

    def close(self) -> None:
        """End waits between retries."""
        self._storage.close()


class Directory:
    """A directory with a file for each blob, under the name of its container."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def size(self, target: Target) -> int:
        """Return the size of a file; 0 if there is none."""
        try:
            return self._file(target).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def append_at(self, target: Target, offset: int, data: bytes) -> None:
        """Append to a file of the size `offset`.

        Raises:
            BlobChanged: it has another size.
            ConfigError: it cannot be written.
        """
        file = self._file(target)
        if self.size(target) != offset:
            raise BlobChanged(
                f"{file} was not written by this command with these options: delete it, or choose another directory"
            )
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("ab") as stream:
                stream.write(data)
        except OSError as error:
            raise ConfigError(f"cannot write {file}: {error.strerror}") from error

    def close(self) -> None:
        """Nothing to end."""

    def _file(self, target: Target) -> Path:
        return self._path / target.container / target.name
