"""The fluent sink's destination: records under a tag of their own in a real server of the forward protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from libs.common.rows.types.flows import FLOWS
from libs.local.fluent import ForwardRules, LocalFluent
from tests.contract.harness import Benchmark, Case, Content, Harness, Row, killed
from tests.contract.peers import Options, Peer
from tests.flows import Spot
from tests.row_samples import document, position_of, row, ticks_of

MODES = ("gzip", "none")
WITHOUT_TLS = {"hosts": ["tls://a", "tcp://b"], "shared_key": "k"}
MARKS = pytest.mark.fluent
_AFTER_2106_MS = 4_300_000_000_000


class FluentHarness(Harness):
    """Records; the mode is their compression."""

    def __init__(self, case: Case, server: LocalFluent) -> None:
        super().__init__(case)
        self.server = server
        self.tag = f"contract.{uuid4().hex}"

    def options(self) -> dict[str, Any]:
        """Give up soon while the server is away, have several chunks in a message, and let each direction have its tag."""
        sizes = {"chunk_rows": 3, "in_flight": 4}
        tag = f"{self.tag}.{'{direction}' if self.case.row_type is FLOWS else 'all'}"
        return {"hosts": self.server.url, "tag": tag, "compression": self.case.mode, "timeout_seconds": 5, **sizes}

    def read(self) -> Content:
        """Return what came. At least once: a record may be there again, and is then the same."""
        content: Content = {}
        for record in self.server.records():
            if record.tag.startswith(f"{self.tag}."):
                kept = record.tag.removeprefix(self.tag), record.time, record.members
                position = position_of(self.case.row_type, record.members)
                assert content.setdefault(position, kept) == kept, "a repeated record is another one"
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, flat, with its tag and its time."""
        return {position_of(self.case.row_type, one): self._expected(one) for one in rows}

    def outage(self) -> AbstractContextManager[None]:
        """Kill the server."""
        return killed(self.server)

    def refused(self) -> Row:
        """A time that the protocol cannot express."""
        return row(self.case.row_type, Spot(1, 0, 90), time=ticks_of(self.case.row_type, _AFTER_2106_MS))

    def _expected(self, values: Row) -> tuple[str, tuple[int, int], dict[str, Any]]:
        a_second = ticks_of(self.case.row_type, 1_000)
        seconds, ticks = divmod(values[self.case.row_type.time], a_second)
        tag = f".{values['direction']}" if self.case.row_type is FLOWS else ".all"
        return tag, (seconds, ticks * (1_000_000_000 // a_second)), document(self.case.row_type, values)


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give a tag of its own."""
    return FluentHarness(case, request.getfixturevalue("fluent"))


def _emit(options: Options, rows: Iterable[dict[str, Any]]) -> int:
    """Send without acknowledgements: the library knows none."""
    from fluent.sender import FluentSender

    place = urlsplit(options["hosts"])
    sender = FluentSender(options["tag"], host=place.hostname, port=place.port)
    sent = sum(sender.emit_with_time(None, datetime.fromisoformat(row["time"]).timestamp(), row) for row in rows)
    sender.close()
    return int(sent)


BENCHMARK = Benchmark(
    "chunks acknowledged, offsets committed",
    own="tag",
    server=partial(LocalFluent, rules=ForwardRules(keeps_records=False)),
    options=lambda server: {"hosts": server.url},
    count=lambda server, _: server.received(),
    peers=(Peer("fluent-logger", _emit, ends="records sent"),),
)
