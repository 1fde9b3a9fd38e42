"""The other side of the zeromq sink: the receiver of docs/examples as a process of its own, and its keys."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq.auth

from libs.local.ports import LOOPBACK, accepts
from libs.local.process import Launch, LocalServer

RECEIVER = Path(__file__).parents[1] / "docs" / "examples" / "zeromq_receiver.py"
SECONDS = 30.0
_MODES = {"dealer": "router", "push": "pull", "pub": "sub"}


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it was received."""

    topic: str
    header: dict[str, Any]
    payload: str


class ZeroMqPeer(LocalServer):
    """A receiver. What it has received survives `kill`."""

    name = "zeromq"

    def __init__(self, data_dir: Path, port: int | None = None, mode: str = "dealer", options: tuple[str, ...] = ()) -> None:
        super().__init__(data_dir, port)
        self.mode = mode
        self.options = options

    @classmethod
    def install(cls) -> None:
        """It needs nothing that the tests do not have."""

    @property
    def url(self) -> str:
        """The endpoint for sinks."""
        return f"tcp://{LOOPBACK}:{self.port}"

    @property
    def file(self) -> Path:
        """The file with what was received."""
        return self.data_dir / "received" / "rows.ndjson"

    @property
    def is_connecting(self) -> bool:
        """Whether it connects to a sink that listens at `url`."""
        return "--connect" in self.options

    def _launch(self) -> Launch:
        self.file.parent.mkdir(exist_ok=True)
        self.file.touch()
        command = (sys.executable, str(RECEIVER), _MODES[self.mode], self.url, str(self.file), *self.options)
        return Launch(command, ready=lambda: self.is_connecting or accepts(self.port))

    @property
    def size(self) -> int:
        """The size of that file, in bytes."""
        return self.file.stat().st_size

    def received(self, since: int = 0) -> list[Received]:
        """Return what was received since the file had that size, in order, but for a line that is still being written."""
        with self.file.open("rb") as file:
            file.seek(since)
            lines = file.read().split(b"\n")[:-1]
        return [Received(**json.loads(line)) for line in lines]

    def wait_for(self, session: bytes, sequence: int, since: int = 0) -> None:
        """Wait until a message was received; those before it, from the same connection, were as well."""
        own = session.decode(), sequence
        eventually(
            lambda: any((one.header["session"], one.header["sequence"]) == own for one in reversed(self.received(since)))
        )

    @contextmanager
    def without_disk(self) -> Iterator[None]:
        """Take the directory away in which it stores what it receives."""
        away = self.file.parent.rename(self.data_dir / "away")
        try:
            yield
        finally:
            away.rename(self.file.parent)


def eventually(happened: Callable[[], bool]) -> None:
    """Wait until something has happened."""
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files with the keys of both sides: each has its own secret, and the public key of the other in a directory."""

    sink: Path
    sink_public: Path
    peer: Path
    peer_public: Path


def certificates(directory: Path) -> Certificates:
    """Write new keys."""
    places = []
    for name in ("sink", "peer"):
        own = directory / name
        own.mkdir(parents=True)
        public, secret = zmq.auth.create_certificates(own, name)
        places += [Path(secret), Path(public)]
    return Certificates(*places)
