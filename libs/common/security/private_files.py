"""Files and directories that only their owner may access: state, spools, locks, logs of processes that we start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700


def private(path: str, flags: int) -> int:
    """Open a file; a new one is accessible only to its owner. An `opener` for `open`."""
    return os.open(path, flags, FILE_MODE)


def private_directory(path: Path) -> None:
    """Make a directory that only its owner can access, if missing; its parents as usual. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
