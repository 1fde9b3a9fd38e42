"""A local VictoriaMetrics, as installed on the machine: it takes InfluxDB's line protocol, version 2 of the API.

It keeps numbers only, with milliseconds, and does not replace a point that is written again. What it has acknowledged is on
disk a few seconds later, or at once when it is asked to end.
"""

from __future__ import annotations

import http.client
import os
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from libs.local.errors import ServerMissing
from libs.local.ports import LOOPBACK
from libs.local.process import Launch, LocalServer


class LocalVictoriaMetrics(LocalServer):
    """One node that keeps points of any age. `stop` keeps everything; `kill` may lose the last seconds."""

    name = "victoria_metrics"

    def __init__(self, data_dir: Path, port: int | None = None, login: tuple[str, str] | None = None) -> None:
        super().__init__(data_dir, port)
        self.login = login  # user and password; without them, everybody is let in

    @classmethod
    def install(cls) -> None:
        """Check that the program is installed; it is not fetched."""
        find_victoria_metrics()

    @property
    def url(self) -> str:
        """The node's URL."""
        return f"http://{LOOPBACK}:{self.port}"

    def _launch(self) -> Launch:
        where = (f"-httpListenAddr={LOOPBACK}:{self.port}", f"-storageDataPath={self.data_dir.resolve() / 'data'}")
        # Older points would be dropped without a word.
        keep = ("-retentionPeriod=100y", "-memory.allowedBytes=256MB", "-loggerLevel=WARN")
        user, password = self.login or ("", "")
        environ = {"httpAuth_username": user, "httpAuth_password": password} if self.login else {}
        return Launch((find_victoria_metrics(), *where, *keep, "-envflag.enable"), self._answers, environ)

    def _answers(self) -> bool:
        try:
            with closing(http.client.HTTPConnection(LOOPBACK, self.port, timeout=5)) as connection:
                connection.request("GET", "/health")
                return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def find_victoria_metrics(environ: Mapping[str, str] = os.environ) -> str:
    """Return the server program. Raises `ServerMissing`."""
    program = shutil.which("victoria-metrics", path=environ.get("PATH", ""))
    if program is None:
        raise ServerMissing("victoria-metrics is not on PATH: install VictoriaMetrics (Debian: victoria-metrics)")
    return program
