"""A local server of the forward protocol, from npm, on Node.js: it acknowledges chunks and keeps their records in a file.

It stands in for Fluentd and Fluent Bit, which no package registry has: PackedForward with and without gzip, acknowledgements,
shared key, user and password, TLS. It has no buffers, filters or outputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from libs.local.node import find_node
from libs.local.npm import packages
from libs.local.ports import LOOPBACK, accepts
from libs.local.process import Launch, LocalServer
from libs.local.resources import resource
from libs.local.tls import ServerTls

_OPTIONS: Final = "BLOBTIDE_LOCAL_FLUENT"


@dataclass(frozen=True, slots=True)
class ForwardRules:
    """What the server requires of its clients, and whether it keeps what they send."""

    shared_key: str | None = None
    login: tuple[str, str] | None = None  # user and password; goes with a shared key
    tls: ServerTls | None = None
    keeps_records: bool = True


@dataclass(frozen=True, slots=True)
class ReceivedRecord:
    """A record that the server has acknowledged: its tag, its time in seconds and nanoseconds, and its members."""

    tag: str
    time: tuple[int, int]
    members: dict[str, Any]


class LocalFluent(LocalServer):
    """One server. What it has acknowledged survives `kill`."""

    name = "fluent"

    def __init__(self, data_dir: Path, port: int | None = None, rules: ForwardRules | None = None) -> None:
        super().__init__(data_dir, port)
        self.rules = rules or ForwardRules()

    @classmethod
    def install(cls) -> None:
        """Fetch the npm packages and check that Node.js is installed."""
        packages(cls.name, find_node())

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"{'tls' if self.rules.tls else 'tcp'}://{LOOPBACK}:{self.port}"

    def records(self) -> Iterator[ReceivedRecord]:
        """Yield all records that it has acknowledged, in order; those of a chunk that came twice are there twice."""
        if not self._file.exists():
            return
        with self._file.open("rb") as lines:
            for line in lines:
                tag, time, members = json.loads(line)
                yield ReceivedRecord(tag, (time[0], time[1]), members)

    def received(self) -> int:
        """Return how many records it has received since it was started, a tenth of a second ago; it need not keep them."""
        text = self._count.read_text(encoding="utf-8") if self._count.exists() else ""
        return int(text or 0)

    @property
    def _count(self) -> Path:
        return self.data_dir.resolve() / "count"

    @property
    def _file(self) -> Path:
        return self.data_dir.resolve() / "records.ndjson"

    def _launch(self) -> Launch:
        node, rules = find_node(), self.rules
        user, password = rules.login or (None, None)
        options = {
            "host": LOOPBACK,
            "port": self.port,
            "file": str(self._file) if rules.keeps_records else None,
            "count": str(self._count),
            "sharedKey": rules.shared_key,
            "user": user,
            "password": password,
            "certificate": str(rules.tls.certificate.resolve()) if rules.tls else None,
            "key": str(rules.tls.key.resolve()) if rules.tls else None,
        }
        environ = {"NODE_PATH": str(packages(self.name, node) / "node_modules"), _OPTIONS: json.dumps(options)}
        script = resource("fluent/server.js")
        return Launch((str(node.executable), str(script)), ready=lambda: accepts(self.port), environ=environ)
