"""A web service as a process of its own, which keeps what it is sent: see `tests.receiver_process`."""

from __future__ import annotations

import base64
import http.client
import json
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from libs.local.ports import LOOPBACK, accepts
from libs.local.process import Launch, LocalServer
from libs.local.tls import ServerTls
from tests import receiver_process


@dataclass(frozen=True, slots=True)
class Kept:
    """A request that the receiver has kept, its body uncompressed; names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class LocalReceiver(LocalServer):
    """The process. What it acknowledged survives `kill`; rules do not."""

    name = "receiver"

    def __init__(
        self, data_dir: Path, port: int | None = None, *, tls: ServerTls | None = None, client_authority: Path | None = None
    ) -> None:
        super().__init__(data_dir, port)
        self.tls = tls
        self.client_authority = client_authority

    @classmethod
    def install(cls) -> None:
        """Nothing to do: it is a script of the tests."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'https' if self.tls else 'http'}://{LOOPBACK}:{self.port}"

    def place(self) -> Place:
        """Return a name that nothing was sent to yet."""
        return Place(self, uuid4().hex)

    def _launch(self) -> Launch:
        files = [] if self.tls is None else [str(self.tls.certificate), str(self.tls.key)]
        if self.client_authority is not None:
            files.append(str(self.client_authority))
        directory = str(self.data_dir.resolve() / "kept")
        argv = (sys.executable, "-I", receiver_process.__file__, str(self.port), directory, *files)
        return Launch(argv, lambda: accepts(self.port))


@dataclass(frozen=True, slots=True)
class Place:
    """One name at a receiver: where to send to, what came, and what is to go wrong."""

    server: LocalReceiver
    name: str

    @property
    def path(self) -> str:
        """The path under which requests are kept."""
        return f"/kept/{self.name}"

    def rules(self, **rules: Any) -> None:
        """Set its rules, instead of any earlier ones. The receiver must be running, without TLS."""
        with closing(http.client.HTTPConnection(LOOPBACK, self.server.port, timeout=30)) as connection:
            connection.request("PUT", f"/rules/{self.name}", json.dumps(rules))
            assert connection.getresponse().status == http.HTTPStatus.OK

    def waiting(self) -> int:
        """Return how many requests are held."""
        with closing(http.client.HTTPConnection(LOOPBACK, self.server.port, timeout=30)) as connection:
            connection.request("GET", f"/rules/{self.name}")
            return int(connection.getresponse().read())

    def kept(self) -> list[Kept]:
        """Return what was acknowledged, in order; the receiver need not be running."""
        file = self.server.data_dir / "kept" / self.name
        if not file.exists():
            return []
        found = map(json.loads, file.read_text(encoding="utf-8").split("\n")[:-1])  # the last line may be half one
        return [Kept(one["method"], one["path"], one["headers"], base64.b64decode(one["body"])) for one in found]
