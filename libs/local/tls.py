"""The TLS identity that a local server presents to its clients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files with a server's certificate and its key."""

    certificate: Path
    key: Path
