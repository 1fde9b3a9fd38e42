"""A local ClickHouse: the engine in its own process, behind the part of the HTTP interface that blobtide uses.

No package registry has a recent enough server, so this is chdb, the engine as a library (`chdb-core-lite`: 170 MB on disk, half
a second to start, 170 MB of memory when idle). Tables, formats, settings and error codes are the engine's own, and so is its
durability: insert tokens are honoured, and acknowledged rows survive `kill`. It has no users, rights or replicas: the process
around it (`clickhouse_http.py`) checks a single user and password.
"""

from __future__ import annotations

import http.client
import importlib.util
import ssl
import sys
from contextlib import closing
from pathlib import Path

from libs.local import clickhouse_http
from libs.local.errors import ServerMissing
from libs.local.ports import LOOPBACK
from libs.local.process import Launch, LocalServer
from libs.local.tls import ServerTls


class LocalClickHouse(LocalServer):
    """One node. Acknowledged rows survive `kill`."""

    name = "clickhouse"

    def __init__(
        self, data_dir: Path, port: int | None = None, *, login: tuple[str, str] | None = None, tls: ServerTls | None = None
    ) -> None:
        super().__init__(data_dir, port)
        self.login = login  # user and password; without them, everybody is let in
        self.tls = tls

    @classmethod
    def install(cls) -> None:
        """Check that the engine is installed; it is not fetched."""
        if importlib.util.find_spec("chdb") is None:
            raise ServerMissing("chdb, the engine of ClickHouse, is not installed: pip install chdb-core-lite")

    @property
    def url(self) -> str:
        """The node's URL."""
        return f"{'https' if self.tls else 'http'}://{LOOPBACK}:{self.port}"

    def _launch(self) -> Launch:
        self.install()
        user, password = self.login or ("", "")
        files = (str(self.tls.certificate), str(self.tls.key)) if self.tls else ()
        # Started by file name: a module would have to be importable from wherever it is started.
        argv = (sys.executable, "-I", clickhouse_http.__file__, str(self.port), str(self.data_dir.resolve() / "data"), *files)
        return Launch(argv, self._answers, {clickhouse_http.USER: user, clickhouse_http.PASSWORD: password})

    def _answers(self) -> bool:
        """Return whether it responds; checking its certificate is left to its clients."""
        address = (LOOPBACK, self.port)
        context = ssl._create_unverified_context()  # noqa: S323, SLF001
        connection = (
            http.client.HTTPSConnection(*address, timeout=5, context=context)
            if self.tls
            else http.client.HTTPConnection(*address, timeout=5)
        )
        try:
            with closing(connection):
                connection.request("GET", "/ping")
                return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
