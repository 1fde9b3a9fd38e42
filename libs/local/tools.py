"""Run a tool that fetches or prepares something, and turn its failure into one clear error."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from libs.local.errors import ServerMissing

_LINES_SHOWN = 5


def run_tool(argv: Sequence[str], what: str, cwd: Path, environ: Mapping[str, str] = MappingProxyType({})) -> None:
    """Run a command to its end, with `environ` added to ours.

    Raises:
        ServerMissing: `what` failed; shows the last lines the tool wrote.
    """
    env = {**os.environ, **environ}
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        written = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        last = " | ".join(written[-_LINES_SHOWN:]) or f"exit code {done.returncode}"
        raise ServerMissing(f"{what} failed; look at the network and the tool's own settings: {last}")
