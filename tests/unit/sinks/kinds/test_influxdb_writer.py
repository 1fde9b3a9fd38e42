"""Writing lines: requests of bounded size, and refused lines found among the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.http.client import Cluster, HttpClient, Tls
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.identity import Identities
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.contract import Outcome
from services.sinks.kinds.influxdb.seen import WrittenBefore
from services.sinks.kinds.influxdb.settings import InfluxSettings
from services.sinks.kinds.influxdb.sink import InfluxSink
from services.sinks.kinds.influxdb.writer import BodyLimits, LineWriter
from tests.fakes.line_server import LineServer, Reply
from tests.flows import Spot, part, row, rows, table

PATH = "/api/v3/write_lp?db=x&precision=nanosecond"
LIMITS = BodyLimits(1_000, 1_000_000)
CONFLICT = "invalid column type for column 'v', expected a, got b"


def lines(number: int) -> pa.ChunkedArray:
    """Return lines that differ by their time."""
    return pa.chunked_array([pa.array([f"m,a=b v={one}i {one}\n" for one in range(number)])])


@contextmanager
def writer_of(server: LineServer, limits: BodyLimits = LIMITS) -> Iterator[LineWriter]:
    """Give a writer to a server."""
    client = HttpClient(Cluster((server.url,), {}, Tls(), 5.0, 1))
    try:
        yield LineWriter(client, PATH, limits)
    finally:
        client.close()


@contextmanager
def sink_of(server: LineServer, **options: Any) -> Iterator[InfluxSink]:
    """Open a sink of version 3."""
    sink = InfluxSink(InfluxSettings.model_validate({"hosts": server.url, "api": "v3", "timeout_seconds": 5} | options), FLOWS)
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


@pytest.mark.parametrize(("limits", "sizes"), [(BodyLimits(4, 10_000), [4, 4, 2]), (BodyLimits(100, 30), [2] * 5)])
def test_bodies_keep_their_limits(limits: BodyLimits, sizes: list[int]) -> None:
    """A request has at most so many lines and bytes."""
    with LineServer() as server, writer_of(server, limits) as writer:
        bodies = list(writer.bodies(lines(10)))
        assert [len(body) for _, body in bodies] == sizes
        for _, body in bodies:
            assert writer.write(body).written == len(body)
        assert len(server.points) == 10


@settings(max_examples=30)
@given(st.sets(st.integers(0, 39), max_size=8), st.sampled_from(["partial", "unparsable", "named"]))
def test_refused_lines_are_found(bad: set[int], how: str) -> None:
    """However the server says it, exactly the lines that it refuses are named, and all others are there."""
    with LineServer() as server, writer_of(server) as writer:
        server.refuses = lambda point: "No fields were provided" if point.time in bad else None
        if how != "named":
            _hide_lines(server, how)
        found = writer.write(lines(40))
        assert {one.line for one in (*found.refused, *found.unclear)} == bad
        assert found.written == 40 - len(bad)
        assert {point.time for point in server.points.values()} == set(range(40)) - bad


def _hide_lines(server: LineServer, how: str) -> None:
    """Have the server answer as versions 1 and 2 do: it says how many lines it refuses, or less."""

    def says(reply: Reply) -> Reply:
        if reply.status != HTTPStatus.BAD_REQUEST:
            return reply
        if how == "partial":
            dropped = len(reply.body["data"])
            return Reply(400, {"error": f"partial write: points beyond retention policy dropped={dropped}"})
        return Reply(400, {"code": "invalid", "message": "unable to parse 'x': missing fields"})

    server.says = says


def test_a_request_that_is_too_large_is_halved() -> None:
    """413 halves the request; a single line that is too large is named."""
    with LineServer(max_lines=3) as server, writer_of(server) as writer:
        assert writer.write(lines(10)).written == 10
        server.max_lines = 0
        (refused,) = writer.write(lines(1)).unclear
        assert refused.code is ErrorCode.TOO_LARGE


def test_too_many_refused_lines_are_not_looked_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of requests it is a Retry: no row is given up without knowing it."""
    monkeypatch.setattr("services.sinks.kinds.influxdb.writer.MOST_REQUESTS", 10)
    with LineServer() as server, writer_of(server) as writer:
        server.refuses = lambda point: "no" if point.time % 2 else None
        _hide_lines(server, "partial")
        with pytest.raises(Retry, match="too many points are refused") as raised:
            writer.write(lines(64))
    assert raised.value.kind == "partial_write"


def test_a_row_that_the_server_refuses_is_named_and_all_others_are_there() -> None:
    """The outcome has the part and the row; the reason names the field and no value."""
    with LineServer() as server, sink_of(server, lines=4) as sink:
        server.refuses = lambda point: CONFLICT if point.fields["src_port"] == 1 else None
        content = [*rows()[:7], row(Spot(0, 50, 0), src_port=1), *rows()[7:]]
        outcome = sink.write([part(0, rows()), part(1, content)])
        assert [(one.part, one.row) for one in outcome.rejected] == [(1, 7)]
        assert outcome.rejected[0].reason == f"influxdb refuses the point: {CONFLICT}"
        assert (outcome.written, outcome.already_there) == (len(rows()), len(rows()))
        assert len(server.points) == len(rows())


def test_a_server_that_refuses_every_row_is_at_fault_itself() -> None:
    """If nothing is accepted it is a Retry, unless the operator has said that everything may become a dead letter."""
    with LineServer() as server:
        server.refuses = lambda _: CONFLICT
        with sink_of(server) as sink, pytest.raises(Retry, match=r"every point is refused, .* dead_letter_limit: 1"):
            sink.write([part(0, rows())])
        with sink_of(server, dead_letter_limit=1) as sink:
            assert len(sink.write([part(0, rows())]).rejected) == len(rows())


def test_the_server_says_how_long_to_wait() -> None:
    """Retry-After of 429 and 503 is kept, in which the pause of a sick host is the least."""
    with LineServer() as server, sink_of(server) as sink:
        for status in (429, 503):
            server.replies.append(Reply(status, {"error": "slow down"}, {"Retry-After": "17"}))
            with pytest.raises(Retry) as raised:
                sink.write([part(0, rows())])
            assert raised.value.after == 17.0


def test_the_token_signs_in_and_is_not_shown() -> None:
    """Version 3 gets a bearer token; a wrong one is a ConfigError that does not quote it."""
    with LineServer(authorization="Bearer right-token") as server:
        with sink_of(server, token="right-token") as sink:  # noqa: S106
            assert sink.write([part(0, rows())]) == Outcome(len(rows()))
        with pytest.raises(ConfigError, match="denies the sign-in") as raised, sink_of(server, token="wrong-token"):  # noqa: S106
            pass
        assert "wrong-token" not in str(raised.value)


def test_what_is_not_there_is_named() -> None:
    """A wrong address, a missing database and a server that is away are told apart at the start."""
    with LineServer() as server:
        server.always = Reply(404, {"error": "database not found"})
        with pytest.raises(ConfigError, match=r"no database blobtide .*sink-setup"), sink_of(server):
            pass
        server.always = Reply(404, "<html>")
        with pytest.raises(ServerUnreachable, match="answered 404 to a write"), sink_of(server):
            pass
        url = server.url
    with pytest.raises(ServerUnreachable, match="is InfluxDB running"):
        InfluxSink(InfluxSettings.model_validate({"hosts": url, "api": "v3", "timeout_seconds": 1}), FLOWS).open()


def test_the_database_of_version_3_is_created_once() -> None:
    """Sink-setup may run again."""
    with LineServer() as server:
        sink = InfluxSink(InfluxSettings.model_validate({"hosts": server.url, "api": "v3", "retention_days": 3}), FLOWS)
        assert sink.setup() == "created the database blobtide"
        assert sink.setup() == "database blobtide is there"


def test_rows_written_before_are_counted() -> None:
    """Rows within what this process has written of their source count as written before; none do after forgetting."""

    def identities(content: Any) -> Identities:
        return Identities.of(table(content), FLOWS.position)

    before = WrittenBefore(most=2)
    content = [row(Spot(0, record, index)) for record in range(4) for index in range(3)]
    assert before.count(identities(content[3:9])) == 0
    assert before.count(identities(content)) == 6
    assert before.count(identities([row(Spot(1, 0, 0))])) == 0
    assert before.count(identities([row(Spot(2, 0, 0))])) == 0
    assert before.count(identities(content)) == 0  # the source written longest ago was forgotten
    before.forget()
    assert before.count(identities(content)) == 0
    assert before.count(identities([])) == 0
