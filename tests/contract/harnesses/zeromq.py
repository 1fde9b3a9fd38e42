"""The zeromq sink's destination: a receiver in a process of its own, with sockets of each kind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import zmq

from libs.common.rows.identity import Identities
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.contract import Sink
from services.sinks.kinds.zeromq.sink import ZeroMqSink
from tests.contract.harness import Benchmark, Case, Content, Harness, Row
from tests.contract.peers import Options, one_by_one
from tests.flows import Spot
from tests.row_samples import document, position_of, row, table, text_column
from tests.zeromq_peer import ZeroMqPeer

MODES = ("dealer", "push", "pub")
MARKS = pytest.mark.zeromq
_MOST_BYTES = 2_000
_PEER_MS = 30_000


class ZeroMqHarness(Harness):
    """Messages in a file; the mode is that of the sink."""

    def __init__(self, case: Case, peer: ZeroMqPeer) -> None:
        super().__init__(case)
        self.peer = peer
        self._since = peer.size
        self._prefix = f"contract/{uuid4().hex}"
        self._sinks: list[ZeroMqSink] = []

    def options(self) -> dict[str, Any]:
        """Give up soon while the peer is away, and let each direction of flows have its topic."""
        own = {"mode": self.case.mode, "topic": self._topic("{direction}"), "max_message_bytes": _MOST_BYTES}
        return {"endpoints": self.peer.url, "timeout_seconds": 3, **own}

    def sink(self) -> Sink:
        """Build a sink, and remember it: what it has sent last tells when all has come."""
        sink = super().sink()
        assert isinstance(sink, ZeroMqSink)
        self._sinks.append(sink)
        return sink

    def read(self) -> Content:
        """Return what came, once everything has that was sent."""
        self._catch_up()
        content: Content = {}
        for message in self.peer.received(self._since):
            values = json.loads(message.payload)
            kept = message.topic, message.header["id"], values
            position = position_of(self.case.row_type, values)
            assert content.setdefault(position, kept) == kept, "a repeated message is another one"
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, flat, with its topic and its identity."""
        row_type = self.case.row_type
        ids = Identities.of(table(row_type, rows), row_type.position).document_ids().to_pylist() if rows else []
        return {
            position_of(row_type, one): (self._topic(one.get("direction")), row_id, document(row_type, one))
            for one, row_id in zip(rows, ids, strict=True)
        }

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Kill the peer when it has all."""
        self._catch_up()
        self.peer.kill()
        try:
            yield
        finally:
            self.peer.start()

    def refusal(self) -> AbstractContextManager[None]:
        """Leave the peer no place to store messages, of which only a dealer is told."""
        return self.peer.without_disk() if self.case.mode == "dealer" else self.outage()

    def refused(self) -> Row:
        """A message that is too large."""
        return row(self.case.row_type, Spot(1, 0, 90), **{text_column(self.case.row_type): "x" * _MOST_BYTES})

    def _catch_up(self) -> None:
        for sink in self._sinks:
            numbering = sink.numbering
            if numbering is not None and numbering.sequence:
                self.peer.wait_for(numbering.session, numbering.sequence, self._since)

    def _topic(self, direction: Any) -> str:
        return f"{self._prefix}/{direction if self.case.row_type is FLOWS else 'all'}"


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give topics of its own, at the receiver of the mode."""
    peer = request.getfixturevalue("zeromq_peers")[case.mode]
    peer.start()  # an earlier test may have failed while it was down
    return ZeroMqHarness(case, peer)


def _send(options: Options, rows: Iterable[bytes]) -> int:
    """Send as the receiver wants it, and count what it has acknowledged."""
    topic, session = options["topic"].encode(), uuid4().hex[:16]
    sent = acknowledged = 0
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(options["endpoints"])
        socket.setsockopt(zmq.RCVTIMEO, _PEER_MS)
        for sent, row in enumerate(rows, 1):
            socket.send_multipart((topic, b'{"session":"%s","sequence":%d}' % (session.encode(), sent), row))
            while int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                acknowledged += _acknowledged(socket.recv_multipart())
        while acknowledged < sent:
            acknowledged += _acknowledged(socket.recv_multipart())
    return acknowledged


def _acknowledged(reply: Sequence[bytes]) -> int:
    ends = (part.split(b"-") for part in reply[2].split(b",") if reply[0] == b"ACK")
    return sum(int(last) - int(first) + 1 for first, last in ends)


BENCHMARK = Benchmark(
    "messages acknowledged by the receiver, offsets committed",
    own="topic",
    server=ZeroMqPeer,
    options=lambda server: {"endpoints": server.url},
    count=lambda server, _: server.file.read_bytes().count(b"\n"),
    peers=one_by_one("send_multipart", _send),
)
