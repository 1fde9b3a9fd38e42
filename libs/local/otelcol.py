"""A local receiver of OpenTelemetry logs: that of the OpenTelemetry Collector for OTLP/HTTP, built once from its Go modules.

No package registry has a collector, so ``deploy/local/otelcol`` has a small program around the collector's own module;
``go.sum`` fixes what is built. It keeps what it takes in a file and knows no other protocols or components.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from libs.local.cache import Recipe, fetched
from libs.local.errors import ServerMissing
from libs.local.ports import LOOPBACK, accepts
from libs.local.process import Launch, LocalServer
from libs.local.resources import resource
from libs.local.tls import ServerTls
from libs.local.tools import run_tool

_FILES: Final = ("main.go", "go.mod", "go.sum")
_REFUSE: Final = "refuse"
_BUSY: Final = "busy"


class LocalCollector(LocalServer):
    """One receiver. Acknowledged records survive `kill`."""

    name = "otelcol"

    def __init__(self, data_dir: Path, port: int | None = None, *, tls: ServerTls | None = None) -> None:
        super().__init__(data_dir, port)
        self.tls = tls

    @classmethod
    def install(cls) -> None:
        """Build the program, unless it is there."""
        program()

    @property
    def url(self) -> str:
        """The address for exporters."""
        return f"{'https' if self.tls else 'http'}://{LOOPBACK}:{self.port}"

    def refuse(self, text: str) -> None:
        """Refuse requests that contain `text` for good from now on; an empty text refuses none."""
        (self.data_dir / _REFUSE).write_text(text, encoding="utf-8")

    def be_busy(self, *, busy: bool) -> None:
        """Take nothing for the time being, or take everything again."""
        file = self.data_dir / _BUSY
        file.touch() if busy else file.unlink(missing_ok=True)

    def requests(self) -> list[dict[str, Any]]:
        """Return all requests that were taken, in order, in the JSON form of OTLP."""
        file = self.data_dir / "logs.jsonl"
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []

    def _launch(self) -> Launch:
        files = (str(self.tls.certificate), str(self.tls.key)) if self.tls else ()
        return Launch((str(program()), str(self.port), str(self.data_dir.resolve()), *files), lambda: accepts(self.port))


def program() -> Path:
    """Return the program, which is built if it is not in the cache. Raises `ServerMissing`."""
    sources = tuple(resource(f"otelcol/{name}") for name in _FILES)

    def build(target: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="blobtide-otelcol-") as work:
            for source in sources:
                shutil.copy(source, work)
            argv = (find_go(), "build", "-mod=readonly", "-trimpath", "-o", str(target / "otelcol"), ".")
            run_tool(argv, "building the OpenTelemetry receiver with Go", Path(work))

    return fetched(Recipe("otelcol", sources), build) / "otelcol"


def find_go(environ: Mapping[str, str] = os.environ) -> str:
    """Return the ``go`` on PATH. Raises `ServerMissing`."""
    go = shutil.which("go", path=environ.get("PATH", ""))
    if go is None:
        raise ServerMissing("Go is required once, to build the OpenTelemetry receiver, but go is not on PATH: install Go")
    return go
