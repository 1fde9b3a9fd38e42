"""Run a tool that fetches or prepares something, and turn its failure into one clear error."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from libs.local.errors import ServerMissing

_LINES_SHOWN = 2
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def run_tool(argv: Sequence[str], what: str, cwd: Path, environ: Mapping[str, str] = MappingProxyType({})) -> None:
    """Run a command until it ends, with `environ` added to our environment.

    Raises:
        ServerMissing: if `what` failed; the message shows the tool's first error, which names the cause.
    """
    env = {**os.environ, **environ}
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        why = _cause(done.stdout + done.stderr) or f"exit code {done.returncode}"
        raise ServerMissing(f"{what} failed; check the network and the tool's own settings: {why}")


def _cause(output: str) -> str:
    lines = [line for raw in _COLOUR.sub("", output).splitlines() if (line := raw.strip()) not in {"", "[ERROR]"}]
    errors = [line for line in lines if "error" in line.lower()]
    return " | ".join(errors[:_LINES_SHOWN] or lines[-_LINES_SHOWN:])
