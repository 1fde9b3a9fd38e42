"""Run a tool that fetches or prepares something, and turn its failure into one clear error."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from libs.local.errors import ServerMissing

_LINES_SHOWN = 5


def run_tool(argv: Sequence[str], what: str, cwd: Path) -> None:
    """Run a command to its end. Raises `ServerMissing`: `what` failed, with the last lines the tool wrote."""
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        written = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        last = " | ".join(written[-_LINES_SHOWN:]) or f"exit code {done.returncode}"
        raise ServerMissing(f"{what} failed; look at the network and the tool's own settings: {last}")
