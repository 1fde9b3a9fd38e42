"""What a local server shows its clients when it speaks TLS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Files, PEM: a server's certificate and its key."""

    certificate: Path
    key: Path
