"""Servers that hang: suspended, their connections stay open and nothing answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psutil

from libs.local.process import LocalServer
from tests.processes import below


def suspended(*servers: LocalServer) -> list[psutil.Process]:
    """Suspend servers and return their processes, to be resumed."""
    guards = [server._process.pid for server in servers if server._process is not None]
    processes = [child for guard in guards for child in below(guard)]
    for process in processes:
        process.suspend()
    return processes


@contextlib.contextmanager
def frozen(*servers: LocalServer) -> Iterator[None]:
    """Suspend servers for a while."""
    processes = suspended(*servers)
    try:
        yield
    finally:
        for process in processes:
            process.resume()
