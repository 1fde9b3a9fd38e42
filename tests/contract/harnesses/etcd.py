"""The etcd sink's destination: keys under a prefix of their own in a real etcd."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import urllib3

from libs.local.etcd import LocalEtcd
from tests.contract.harness import Benchmark, Case, Content, Harness, Row, killed
from tests.contract.peers import Options, one_by_one
from tests.etcd_client import EtcdClient
from tests.flows import Spot
from tests.row_samples import document, position_of, row, text_column

MODES = ("kept", "leased")
WITHOUT_TLS = {"hosts": ["https://a:2379", "http://b:2379"], "username": "u", "password": "p"}
MARKS = pytest.mark.etcd
_MOST_BYTES = 4_000


class EtcdHarness(Harness):
    """Keys, which expire in mode `leased`."""

    def __init__(self, case: Case, server: LocalEtcd) -> None:
        super().__init__(case)
        self.server = server
        self.client = EtcdClient(server.url)
        self.prefix = f"/contract/{uuid4().hex}"

    def options(self) -> dict[str, Any]:
        """Give up soon while the server is away; write small transactions, several at a time."""
        limits = {"request_bytes": _MOST_BYTES, "transaction_rows": 7, "in_flight": 3}
        kept = {"ttl_seconds": 0 if self.case.mode == "kept" else 3_600}
        return {"hosts": self.server.url, "prefix": self.prefix, "timeout_seconds": 5, **kept, **limits}

    def read(self) -> Content:
        """Read everything; each key was put once, and has a lease if keys expire."""
        content: Content = {}
        for entry in self.client.entries(f"{self.prefix}/"):
            values = json.loads(entry.value)
            assert entry.version == 1, "an existing key was put again"
            assert bool(entry.lease) == (self.case.mode == "leased")
            position = position_of(self.case.row_type, values)
            assert position not in content, "a row has two keys"
            content[position] = values
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, flat."""
        return {position_of(self.case.row_type, row): document(self.case.row_type, row) for row in rows}

    def outage(self) -> AbstractContextManager[None]:
        """Kill the server."""
        return killed(self.server)

    @contextmanager
    def refusal(self) -> Iterator[None]:
        """Raise the alarm of a server whose database is full."""
        self.client.alarm("ACTIVATE")
        try:
            yield
        finally:
            self.client.alarm("DEACTIVATE")

    def refused(self) -> Row:
        """A row that is too large for a transaction."""
        return row(self.case.row_type, Spot(1, 0, 90), **{text_column(self.case.row_type): "x" * _MOST_BYTES})


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give an unused prefix."""
    return EtcdHarness(case, request.getfixturevalue("etcd_server"))


def _put(options: Options, rows: Iterable[bytes]) -> int:
    session, done = uuid4().hex, 0
    with urllib3.PoolManager() as http:
        for number, row in enumerate(rows):
            key = f"{options['prefix']}/{session}/{number}"
            body = {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(row).decode()}
            done += http.request("POST", f"{options['hosts']}/v3/kv/put", json=body).status == HTTPStatus.OK
    return done


def _count(server: LocalEtcd, options: Options) -> int:
    first, last = (base64.b64encode(f"{options['prefix']}{end}".encode()).decode() for end in "/0")  # 0 comes after the slash
    return int(EtcdClient(server.url).ask("/kv/range", key=first, range_end=last, count_only=True).get("count", 0))


BENCHMARK = Benchmark(
    "transactions answered, offsets committed",
    own="prefix",
    server=LocalEtcd,
    options=lambda server: {"hosts": server.url},
    count=_count,
    peers=one_by_one("urllib3 /kv/put", _put, rows=4_000),
)
