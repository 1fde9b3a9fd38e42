"""What the amqp sink does beyond the sink contract, at a real RabbitMQ."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.row_type import RowType
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from libs.common.settings import Settings
from libs.common.settings.kafka import KafkaSettings, TopicSettings
from libs.local.ports import LOOPBACK, free_port
from libs.local.rabbitmq import LocalRabbitMq
from services.sinks.frame.contract import Outcome, Part
from services.sinks.kinds.amqp.settings import AmqpSettings
from services.sinks.kinds.amqp.sink import AmqpSink
from tests.documents import document_id, flat_document
from tests.flows import START_MS, Spot, part, row, rows
from tests.rabbitmq import MOST_BYTES, READER, VHOST, WRITER, Came, Reader, tls_directory
from tests.sink_process import produce, sink_process, write_config

pytestmark = pytest.mark.rabbitmq
SECONDS = 60.0


def made(server: LocalRabbitMq, row_type: RowType = FLOWS, **options: Any) -> AmqpSink:
    """Return a sink; not opened."""
    own = {"urls": server.url, "timeout_seconds": 10, **options}
    return AmqpSink(AmqpSettings.model_validate(own), row_type)


@contextmanager
def sink_of(server: LocalRabbitMq, row_type: RowType = FLOWS, **options: Any) -> Iterator[AmqpSink]:
    """Open a sink."""
    sink = made(server, row_type, **options)
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


@pytest.fixture
def reader(rabbitmq: LocalRabbitMq) -> Reader:
    """Give a reader of the virtual host ``/``."""
    return Reader(rabbitmq)


@pytest.fixture
def exchange(reader: Reader) -> str:
    """Give an exchange of its own."""
    name = f"rows.{uuid4().hex}"
    reader.exchange(name)
    return name


def counted(came: Sequence[Came]) -> Counter[str]:
    """Count messages by id."""
    return Counter(message.properties.message_id for message in came)


def once(content: Sequence[Any]) -> Counter[str]:
    """Return what `counted` gives when each row is there once."""
    return Counter(map(document_id, content))


def patient(sink: AmqpSink, content: Sequence[Any], between: Callable[[Retry], object] = lambda _: None) -> Outcome:
    """Write until it is done, and call `between` at each Retry."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            return sink.write([part(0, content)])
        except Retry as error:
            between(error)
            time.sleep(min(error.after, 0.1))
    raise AssertionError("it never ends")


def test_a_message_says_what_it_is(rabbitmq: LocalRabbitMq, reader: Reader, exchange: str) -> None:
    """Each row is a persistent message with identity, time, type and form, routed by its log."""
    queue = reader.queue(exchange)
    content = [
        row(Spot(0, 0, 0)),
        row(Spot(0, 0, 1), category="NetworkSecurityGroupFlowEvent"),
        row(Spot(0, 0, 2), category=None),
    ]
    with sink_of(rabbitmq, exchange=exchange) as sink:
        assert sink.write([part(0, content)]) == Outcome(3)
    came = reader.take(queue)
    assert [message.key for message in came] == ["flowlog.vnet", "flowlog.nsg", "flowlog.other"]
    assert [json.loads(message.body) for message in came] == [flat_document(one) for one in content]
    properties = came[0].properties
    assert (properties.message_id, properties.timestamp) == (document_id(content[0]), START_MS // 1_000)
    assert (properties.delivery_mode, properties.content_type) == (2, "application/json")
    assert (properties.type, properties.app_id, properties.headers) == ("flows", "blobtide", {"schema-version": "1"})


def test_dead_letters_are_messages_like_any_other(rabbitmq: LocalRabbitMq, reader: Reader, exchange: str) -> None:
    """A dead letter is a message of its JSON with its code as a routing key."""
    queue = reader.queue(exchange)
    with sink_of(rabbitmq, DEAD_LETTERS, exchange=exchange, routing_key="{rows}.{code}", format="otel") as sink:
        assert sink.write([Part(0, DEAD_LETTERS, DEAD_LETTERS.example_table, (1,))]) == Outcome(1)
    (message,) = reader.take(queue)
    assert (message.key, message.properties.type) == ("dead_letters.bad_address", "dead_letters")


def test_many_and_large_messages_arrive_in_order(rabbitmq: LocalRabbitMq, reader: Reader, exchange: str) -> None:
    """More than is sent at once, and bodies of several frames, arrive whole and in order."""
    queue = reader.queue(exchange)
    content = [row(Spot(0, at, 0), src_port=1, rule="x" * (200_000 if at % 2_000 == 7 else 1)) for at in range(9_000)]
    with sink_of(rabbitmq, exchange=exchange) as sink:
        assert sink.write([part(0, content)]) == Outcome(len(content))
    came = reader.take(queue)
    assert [message.properties.message_id for message in came] == [document_id(one) for one in content]
    assert json.loads(came[7].body) == flat_document(content[7])


def test_the_default_exchange_routes_to_a_queue(rabbitmq: LocalRabbitMq, reader: Reader) -> None:
    """Without an exchange the routing key names a queue, and there is nothing to set up."""
    queue = reader.queue("")
    with sink_of(rabbitmq, exchange="", routing_key=queue) as sink:
        assert sink.setup() is None
        assert sink.write([part(0, rows())]) == Outcome(len(rows()))
    assert counted(reader.take(queue)) == once(rows())


def test_a_message_that_no_queue_takes_is_a_dead_letter(rabbitmq: LocalRabbitMq, reader: Reader, exchange: str) -> None:
    """The row is named with its routing key, its neighbours are written; without mandatory the server drops the message."""
    queue = reader.queue(exchange, ("flows.allow",))
    content = rows()
    denied = [at for at, one in enumerate(content) if one["action"] == "deny"]
    with sink_of(rabbitmq, exchange=exchange, routing_key="flows.{action}") as sink:
        outcome = sink.write([part(0, content)])
    assert sorted(one.row for one in outcome.rejected) == denied
    assert outcome.written == len(content) - len(denied)
    assert {(one.code, one.reason) for one in outcome.rejected} == {
        (ErrorCode.REFUSED, "no queue takes messages with the routing key flows.deny: NO_ROUTE (code 312)")
    }
    assert counted(reader.take(queue)) == once([one for one in content if one["action"] == "allow"])
    with sink_of(rabbitmq, exchange=exchange, routing_key="flows.{action}", mandatory=False) as sink:
        assert sink.write([part(0, content)]) == Outcome(len(content))


def test_what_is_too_large_for_the_server_costs_one_row(rabbitmq: LocalRabbitMq, reader: Reader, exchange: str) -> None:
    """The server closes the channel and names its limit; from then on the row is refused by itself."""
    queue = reader.queue(exchange)
    content = rows()[:6]
    huge = row(Spot(9, 0, 0), rule="x" * MOST_BYTES)
    with sink_of(rabbitmq, exchange=exchange) as sink:
        with pytest.raises(Retry, match="takes no message of this size") as raised:
            sink.write([part(0, [*content, huge])])
        assert (raised.value.kind, raised.value.after) == ("too_large", 0.0)
        outcome = sink.write([part(0, [*content, huge])])
    assert [(one.row, one.code) for one in outcome.rejected] == [(6, ErrorCode.TOO_LARGE)]
    assert f"more than the {MOST_BYTES}" in outcome.rejected[0].reason
    assert set(counted(reader.take(queue))) == set(once(content))


def test_a_full_queue_gets_each_message_once(rabbitmq: LocalRabbitMq, reader: Reader, exchange: str) -> None:
    """What a queue rejects is sent again, and nothing that it took: it has all in the end, however little room it has."""
    queue = reader.queue(exchange, arguments={"x-max-length": 7, "x-overflow": "reject-publish"})
    content = rows()
    assert len(content) > 3 * 7
    came: list[Came] = []
    said: list[str] = []

    def take(error: Retry) -> None:
        said.append(f"{error.kind}: {error}")
        came.extend(reader.take(queue))

    with sink_of(rabbitmq, exchange=exchange) as sink:
        assert patient(sink, content, take) == Outcome(len(content))
    came += reader.take(queue)
    assert counted(came) == once(content)
    assert all(one.startswith("nack: ") and "could not take" in one for one in said)


def test_a_server_short_of_memory_gets_each_message_once(rabbitmq: LocalRabbitMq, reader: Reader, exchange: str) -> None:
    """While the server blocks publishers a write says why; afterwards what had been sent is not sent again."""
    queue = reader.queue(exchange)
    with sink_of(rabbitmq, exchange=exchange) as sink:
        rabbitmq.control("set_vm_memory_high_watermark", "0")
        try:
            for _ in range(2):
                with pytest.raises(Retry, match=r"takes no messages now, it is short of something: .*memory") as raised:
                    sink.write([part(0, rows())])
                assert raised.value.kind == "blocked"
        finally:
            rabbitmq.control("set_vm_memory_high_watermark", "0.6")
        assert patient(sink, rows()) == Outcome(len(rows()))
    assert counted(reader.take(queue)) == once(rows())


def test_a_server_killed_while_publishing_loses_nothing(rabbitmq: LocalRabbitMq, reader: Reader, exchange: str) -> None:
    """A kill amid messages is a Retry; when the server is back, each row is there at least once."""
    queue = reader.queue(exchange)
    content = [row(Spot(0, at, 0), src_port=1) for at in range(20_000)]
    kills: list[int] = []

    def kill() -> None:
        if not kills:
            kills.append(1)
            rabbitmq.kill()

    with sink_of(rabbitmq, exchange=exchange, timeout_seconds=5) as sink:
        sink.write([part(0, content[:100])])
        sink.while_waiting(kill)
        with pytest.raises(Retry):
            sink.write([part(0, content)])
        rabbitmq.start()
        assert patient(sink, content) == Outcome(len(content))
    came = counted(reader.take(queue))
    assert set(came) == set(once(content))


def test_an_idle_connection_stays_and_a_broken_one_is_made_again(
    rabbitmq: LocalRabbitMq, reader: Reader, exchange: str
) -> None:
    """Between writes the connection is kept by heartbeats; when the server has been away the next write connects again."""
    reader.queue(exchange)
    with sink_of(rabbitmq, exchange=exchange, heartbeat_seconds=5) as sink:
        client = sink._client
        assert client is not None
        connection, until = client._connection, time.monotonic() + 12
        while time.monotonic() < until:  # the server gives up on a silent client after two intervals
            sink.tick()
            time.sleep(0.05)
        assert client._connection is connection
        rabbitmq.kill()
        until = time.monotonic() + 60
        while client._connection is connection:
            assert time.monotonic() < until
            sink.tick()
        rabbitmq.start()
        sink.tick()
        assert sink.write([part(0, rows()[:3])]) == Outcome(3)


def test_operators_see_whose_connection_it_is(rabbitmq: LocalRabbitMq, exchange: str) -> None:
    """The server lists the sink by its name."""
    sink = made(rabbitmq, exchange=exchange)
    sink.join("hot", Settings())
    sink.open()
    try:
        assert '"blobtide.sink.hot"' in rabbitmq.control("list_connections", "client_properties")
    finally:
        sink.close()


def test_the_first_node_that_responds_is_used(rabbitmq: LocalRabbitMq, reader: Reader, exchange: str) -> None:
    """A node that is down is passed over; if all are, each is named."""
    reader.queue(exchange)
    ports = free_port(), free_port()
    with sink_of(rabbitmq, exchange=exchange, urls=[f"amqp://{LOOPBACK}:{ports[0]}", rabbitmq.url]) as sink:
        assert sink.write([part(0, rows()[:3])]) == Outcome(3)
    sink = made(rabbitmq, urls=[f"amqp://{LOOPBACK}:{port}" for port in ports])
    with pytest.raises(ServerUnreachable, match=rf"{ports[0]} does not answer: .*{ports[1]} does not.*is it running"):
        sink.open()
    sink.close()


def test_setup_makes_the_exchange(rabbitmq: LocalRabbitMq, reader: Reader) -> None:
    """Without its exchange a sink does not start, but says what to run; sink-setup, or declare, makes it, again and again."""
    more: dict[str, Any]
    for more in ({}, {"declare": True}):
        name = f"rows.{uuid4().hex}"
        with pytest.raises(ConfigError, match=r"no such exchange: run `blobtide sink-setup`.*404"):
            made(rabbitmq, exchange=name).open()
        if not more:
            assert [made(rabbitmq, exchange=name).setup() for _ in range(2)] == [f"topic exchange {name} is there"] * 2
        with sink_of(rabbitmq, FLOWS, exchange=name, **more) as sink:
            queue = reader.queue(name)
            sink.write([part(0, rows())])
            assert len(reader.take(queue)) == len(rows())
    with pytest.raises(ConfigError, match=r"other properties: set exchange_type.*406"):
        made(rabbitmq, exchange=name, exchange_type="fanout").setup()


def test_an_exchange_that_vanishes_ends_the_sink(rabbitmq: LocalRabbitMq, reader: Reader, exchange: str) -> None:
    """What only the operator can mend is no Retry."""
    with sink_of(rabbitmq, exchange=exchange) as sink:
        with reader.channel() as channel:
            channel.exchange_delete(exchange)
        with pytest.raises(ConfigError, match="no such exchange"):
            sink.write([part(0, rows())])


def secured(server: LocalRabbitMq, **options: Any) -> AmqpSink:
    """Return a sink that signs in over TLS."""
    own = {"urls": server.tls_url, "vhost": VHOST, "ca_file": tls_directory(server) / "ca.pem", "exchange": "rows"}
    return made(server, FLOWS, **(own | options))


def login(user: Any, password: str | None = None) -> dict[str, Any]:
    """Return the options of a user."""
    return {"username": user.name, "password": password or user.password}


def test_who_may_only_write_signs_in_over_tls(rabbitmq: LocalRabbitMq) -> None:
    """A user with the right to write to the exchange, and no other, is all that it takes."""
    reader = Reader(rabbitmq, VHOST)
    reader.exchange("rows")
    queue = reader.queue("rows")
    certified = {"sign_in": "external", **certificate(rabbitmq, "certified")}
    for options in (login(WRITER), certified, login(WRITER) | {"ca_file": None, "verify": False}):
        sink = secured(rabbitmq, **options)
        sink.open()
        assert sink.write([part(0, rows()[:3])]) == Outcome(3)
        sink.close()
        assert len(reader.take(queue)) == 3


def certificate(server: LocalRabbitMq, name: str) -> dict[str, Any]:
    """Return the options of who has a certificate."""
    tls = tls_directory(server)
    return {"cert_file": tls / f"{name}.pem", "key_file": tls / f"{name}.key"}


def test_whoever_is_not_let_in_is_told_why(rabbitmq: LocalRabbitMq) -> None:
    """Wrong password, certificate, authority, virtual host and missing rights are told apart, and no password is shown."""
    Reader(rabbitmq, VHOST).exchange("rows")
    stranger = {"sign_in": "external", **certificate(rabbitmq, "stranger")}
    cases: list[tuple[dict[str, Any], str]] = [
        (login(WRITER, "wr0ng"), "does not let us in: check username and password"),
        (stranger, "no user has the name in our certificate"),
        (login(WRITER) | {"ca_file": None}, "certificate of .* is not trusted: set ca_file"),
        (login(WRITER) | {"vhost": "nowhere"}, "does not let us into the virtual host.*nowhere"),
        (login(WRITER) | {"vhost": "/"}, "does not let us into the virtual host"),
        (login(WRITER) | {"urls": f"amqps://{LOOPBACK}:{rabbitmq.port}"}, "does not speak TLS"),
    ]
    for options, said in cases:
        sink = secured(rabbitmq, **options)
        with pytest.raises(ConfigError, match=said) as raised:
            sink.open()
        assert WRITER.password not in str(raised.value)
        assert "wr0ng" not in str(raised.value)
        sink.close()


def test_a_missing_right_is_told(rabbitmq: LocalRabbitMq) -> None:
    """Who may not write, or not make the exchange, is told which right is missing."""
    reader = Reader(rabbitmq, VHOST)
    reader.exchange("rows")
    sink = secured(rabbitmq, **login(READER))
    sink.open()
    with pytest.raises(ConfigError, match=r"the user needs the right to write.*403"):
        sink.write([part(0, rows())])
    sink.close()
    with pytest.raises(ConfigError, match=r"to configure it for sink-setup"):
        secured(rabbitmq, **login(WRITER)).setup()


def test_a_port_that_wants_tls_says_nothing_to_others(rabbitmq: LocalRabbitMq) -> None:
    """Without TLS at the port of TLS, the hint is to set it."""
    sink = made(rabbitmq, urls=f"amqp://{LOOPBACK}:{rabbitmq.tls_port}", timeout_seconds=5)
    with pytest.raises(ServerUnreachable, match=r"is TLS needed or not"):
        sink.open()
    sink.close()


@pytest.mark.kafka
def test_a_stop_amid_a_backlog_drains_and_loses_nothing(
    kafka_settings: KafkaSettings, topics: TopicSettings, rabbitmq: LocalRabbitMq, tmp_path: Path
) -> None:
    """SIGTERM ends the process cleanly with what it had sent confirmed; the next one goes on, and every row is there."""
    reader, exchange, content = Reader(rabbitmq), f"rows.{uuid4().hex}", rows(blobs=40, records=10, tuples=4)
    reader.exchange(exchange)
    queue = reader.queue(exchange)
    options = {"urls": rabbitmq.url, "exchange": exchange, "batch": {"messages": 2}}
    config = write_config(tmp_path / "config.yaml", kafka_settings, topics, {"amqp": options})
    produce(kafka_settings, topics.flows, content)
    came: set[str] = set()
    for goal in (1, len(content)):
        with sink_process(config, "amqp") as process:
            deadline = time.monotonic() + SECONDS
            while len(came) < goal:
                assert time.monotonic() < deadline, (tmp_path / "sink.log").read_text()
                came |= set(counted(reader.take(queue)))
            process.terminate()
            assert process.wait(SECONDS) == 0, (tmp_path / "sink.log").read_text()
    came |= set(counted(reader.take(queue)))
    assert came == set(once(content))
    assert "Traceback" not in (tmp_path / "sink.log").read_text()
