"""What the fluent sink does beyond the sink contract, at a real server of the forward protocol."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.row_type import RowType
from libs.common.rows.types.flows import FLOWS
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.fluent import ForwardRules, LocalFluent, ReceivedRecord
from libs.local.ports import LOOPBACK, free_port
from services.sinks.frame.contract import Outcome
from services.sinks.kinds.fluent.settings import FluentSettings
from services.sinks.kinds.fluent.sink import FluentSink
from tests.canaries import PASSWORD, TOKEN
from tests.certificates import server_tls
from tests.documents import ecs_document
from tests.fixtures.servers import serving
from tests.flows import Spot, identity, part, row, rows
from tests.sink_process import SECONDS, produce, sink_process, write_config

pytestmark = pytest.mark.fluent


@contextmanager
def sink_of(url: str, row_type: RowType = FLOWS, **options: Any) -> Iterator[FluentSink]:
    """Open a sink."""
    sink = FluentSink(FluentSettings.model_validate({"hosts": url, "timeout_seconds": 5} | options), row_type)
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


@contextmanager
def ruled(directory: Path, rules: ForwardRules) -> Iterator[LocalFluent]:
    """Run a server with rules of its own."""
    server = LocalFluent(directory / "server", rules=rules)
    with serving(server):
        yield server


def of_tag(server: LocalFluent, tag: str) -> list[ReceivedRecord]:
    """Return the records under a tag."""
    return [record for record in server.records() if record.tag == tag]


def test_a_record_may_be_an_ecs_document(fluent: LocalFluent) -> None:
    """With format ecs the members of a record nest as in a document, also in another server's reading."""
    tag = f"ecs.{uuid4().hex}"
    with sink_of(fluent.url, tag=tag, format="ecs") as sink:
        assert sink.write([part(0, rows())]) == Outcome(len(rows()))
    assert [record.members for record in of_tag(fluent, tag)] == [ecs_document(one) for one in rows()]


def test_chosen_columns_arrive_under_their_names(fluent: LocalFluent) -> None:
    """Columns and names are chosen as for every sink, and a dot nests."""
    tag = f"chosen.{uuid4().hex}"
    with sink_of(fluent.url, tag=tag, columns=["src_ip", "dst_port"], rename={"src_ip": "source.ip"}) as sink:
        sink.write([part(0, rows()[:1])])
    (record,) = of_tag(fluent, tag)
    assert record.members == {"source": {"ip": rows()[0]["src_ip"]}, "dst_port": rows()[0]["dst_port"]}


@pytest.mark.parametrize("login", [None, ("writer", PASSWORD)])
def test_a_shared_key_lets_in_over_tls(login: tuple[str, str] | None, tmp_path: Path) -> None:
    """With key, password and authority right rows arrive; each of them wrong is a ConfigError that quotes none."""
    rules = ForwardRules(shared_key=TOKEN, login=login, tls=server_tls(tmp_path))
    user = {} if login is None else {"username": login[0], "password": login[1]}
    right: dict[str, Any] = {"shared_key": TOKEN, "ca_file": tmp_path / "ca.pem", **user}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"shared_key": "another key"}, "does not let us in"),
        ({"ca_file": None}, "certificate is not trusted.*set ca_file"),
    ]
    if login is not None:
        wrong += [({"password": "another password"}, "does not let us in"), ({"username": "reader"}, "does not let us in")]
    with ruled(tmp_path, rules) as server:
        assert server.url.startswith("tls://")
        with sink_of(server.url, tag="t", **right) as sink:
            assert sink.write([part(0, rows())]) == Outcome(len(rows()))
        for changes, said in wrong:
            with pytest.raises(ConfigError, match=said) as raised, sink_of(server.url, **right | changes):
                pass
            assert "another" not in str(raised.value)
        assert len(of_tag(server, "t")) == len(rows())


def test_a_server_that_asks_for_a_key_gets_none(tmp_path: Path) -> None:
    """Without a shared key in the settings, a server that asks for one is named at the first write."""
    with (
        ruled(tmp_path, ForwardRules(shared_key=TOKEN)) as server,
        sink_of(server.url) as sink,
        pytest.raises(ConfigError, match="asks for a shared key: set shared_key"),
    ):
        sink.write([part(0, rows())])


def test_a_record_that_is_too_large_costs_one_row(fluent: LocalFluent) -> None:
    """A row beyond max_record_bytes is refused as too large, and its neighbours arrive."""
    tag = f"large.{uuid4().hex}"
    with sink_of(fluent.url, tag=tag, max_record_bytes=2_000) as sink:
        outcome = sink.write([part(0, [*rows()[:3], row(Spot(0, 77, 0), rule="x" * 3_000), *rows()[3:]])])
    assert [(one.part, one.row, one.code) for one in outcome.rejected] == [(0, 3, ErrorCode.TOO_LARGE)]
    assert len(of_tag(fluent, tag)) == outcome.written == len(rows())


def test_the_next_server_takes_over(fluent: LocalFluent, tmp_path: Path) -> None:
    """When the server in use dies the rows of the next write go to another one."""
    tag = f"failover.{uuid4().hex}"
    with ruled(tmp_path, ForwardRules()) as other, sink_of(f"{other.url},{fluent.url}", tag=tag, connections=2) as sink:
        sink.write([part(0, rows()), part(1, rows(5))])
        other.kill()
        assert sink.write([part(0, rows(7))]) == Outcome(len(rows(7)))
    found = {identity(record.members) for record in of_tag(fluent, tag)}
    assert found >= {identity(one) for one in rows(7)}


def test_a_server_killed_while_rows_are_sent_loses_none(tmp_path: Path) -> None:
    """Whatever was acknowledged when the server died is there, and the rest when the rows are written again."""
    content = rows(blobs=40, records=30, tuples=20)
    with ruled(tmp_path, ForwardRules()) as server, sink_of(server.url, tag="k", chunk_rows=50, compression="none") as sink:
        for attempt in range(3):
            killer = threading.Timer(0.02 * (attempt + 1), server.kill)
            killer.start()
            try:
                sink.write([part(0, content)])
            except Retry:
                pass
            finally:
                killer.join()
            server.start()
        assert sink.write([part(0, content)]) == Outcome(len(content))
        found = {identity(record.members) for record in server.records()}
    assert found == {identity(one) for one in content}


def test_a_server_that_is_not_there_is_named() -> None:
    """A start says which address does not answer."""
    url = f"tcp://{LOOPBACK}:{free_port()}"
    with pytest.raises(ServerUnreachable, match=f"{url} does not answer: .*are the sink's hosts right"), sink_of(url):
        pass


@pytest.mark.kafka
def test_a_process_that_is_stopped_has_delivered_what_it_committed(
    fluent: LocalFluent, kafka_settings: KafkaSettings, topics: TopicSettings, tmp_path: Path
) -> None:
    """SIGTERM in the middle ends it cleanly; a second process delivers the rest, and every row is there."""
    content, tag = rows(blobs=8, records=10, tuples=10), f"process.{uuid4().hex}"
    options = {"hosts": [fluent.url], "tag": tag, "batch": {"messages": 5}}
    config = write_config(tmp_path / "config.yaml", kafka_settings, topics, {"fluent": options})
    produce(kafka_settings, topics.flows, content)
    with sink_process(config, "fluent") as process:
        _wait_until(lambda: len(of_tag(fluent, tag)) > 0)
        process.terminate()
        assert process.wait(SECONDS) == 0
    with sink_process(config, "fluent"):
        _wait_until(lambda: {identity(one.members) for one in of_tag(fluent, tag)} == {identity(one) for one in content})


def _wait_until(happened: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
