"""A local Redis (or Valkey), as installed on the machine, with an append-only file."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from contextlib import closing

from libs.local.errors import ServerMissing
from libs.local.ports import LOOPBACK
from libs.local.process import Launch, LocalServer


class LocalRedis(LocalServer):
    """A single Redis. Acknowledged writes survive `kill`."""

    name = "redis"

    @classmethod
    def install(cls) -> None:
        """Check that the program is installed; it is not fetched."""
        find_redis()

    @property
    def url(self) -> str:
        """URL of database 0."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def _launch(self) -> Launch:
        where = ("--bind", LOOPBACK, "--port", str(self.port), "--dir", str(self.data_dir))
        # The file is written before Redis replies. Only fsync is a second late, and a killed process loses no written bytes.
        keep = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")
        return Launch((find_redis(), *where, *keep), ready=self._answers)

    def _answers(self) -> bool:
        """Return whether PING gets PONG; while Redis loads its data, the reply is an error."""
        try:
            with closing(socket.create_connection((LOOPBACK, self.port), timeout=1.0)) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
        except OSError:
            return False


def find_redis(environ: Mapping[str, str] = os.environ) -> str:
    """Return the server program. Raises `ServerMissing`."""
    path = environ.get("PATH", "")
    program = shutil.which("redis-server", path=path) or shutil.which("valkey-server", path=path)
    if program is None:
        raise ServerMissing("redis-server (or valkey-server) is not on PATH: install Redis (Debian: redis-server)")
    return program
