"""Keep ports the same from run to run: recorded in the data directory, and reused if they are free."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from libs.common.security.private_files import private
from libs.local.ports import is_free

_FILE: Final = "ports.json"


def last_port(data_dir: Path, server: str) -> int | None:
    """Return the port that `server` used in the last run; None if unknown or now taken."""
    port = _written(data_dir).get(server)
    return port if isinstance(port, int) and is_free(port) else None


def remember_port(data_dir: Path, server: str, port: int) -> None:
    """Record the port of `server`; those of others are kept."""
    text = json.dumps({**_written(data_dir), server: port})
    with open(data_dir / _FILE, "w", encoding="utf-8", opener=private) as file:
        file.write(text)


def _written(data_dir: Path) -> Mapping[str, object]:
    try:
        ports = json.loads((data_dir / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a first run, or one that ended while writing: other ports will do
        return {}
    return ports if isinstance(ports, dict) else {}
