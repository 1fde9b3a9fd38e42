"""Ports that stay the same from run to run: written down in the data directory, and taken again if they are free."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from libs.common.security.private_files import private
from libs.local.ports import is_free

_FILE: Final = "ports.json"


def last_port(data_dir: Path, server: str) -> int | None:
    """Return the port that `server` had in the last run; None if there is none, or somebody else has it now."""
    port = _written(data_dir).get(server)
    return port if isinstance(port, int) and is_free(port) else None


def remember_port(data_dir: Path, server: str, port: int) -> None:
    """Write down the port of `server`; those of others stay."""
    text = json.dumps({**_written(data_dir), server: port})
    with open(data_dir / _FILE, "w", encoding="utf-8", opener=private) as file:
        file.write(text)


def _written(data_dir: Path) -> Mapping[str, object]:
    try:
        ports = json.loads((data_dir / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a first run, or an end in the middle of writing: other ports do as well
        return {}
    return ports if isinstance(ports, dict) else {}
