"""One service as a process of its own, which may be told where to crash."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from libs.common.process.crash import CRASH_VARIABLE
from libs.local.ports import free_port


@contextlib.contextmanager
def service_process(
    name: str, settings: dict[str, Any], directory: Path, ordinal: int = 0, crash: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service until the block ends; its log is in `directory`."""
    file = directory / f"{name}-{ordinal}.yaml"
    file.write_text(yaml.safe_dump(settings))
    environment = {
        **os.environ,
        "BLOBTIDE_HTTP__PORT": str(free_port()),
        "BLOBTIDE_INSTANCE__ORDINAL": str(ordinal),
        **({CRASH_VARIABLE: crash} if crash else {}),
    }
    with (directory / f"{name}-{ordinal}.log").open("ab") as log:
        argv = [sys.executable, "-m", "services.cli.main", "run", name, "--config", str(file)]
        child = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
