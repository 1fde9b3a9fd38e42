"""Files and directories that are nobody else's business: state, spools, locks, logs of what we start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700


def private(path: str, flags: int) -> int:
    """Open a file; one that is made is readable by its owner alone. The `opener` of `open`."""
    return os.open(path, flags, FILE_MODE)


def private_directory(path: Path) -> None:
    """Make a directory, unless it is there, that its owner alone can look into; those above it as usual. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
