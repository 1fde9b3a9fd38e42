"""What the mqtt sink does beyond the sink contract, at a real Mosquitto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

from libs.common.errors import ServerUnreachable
from libs.common.rows.row_type import RowType
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from libs.local.mosquitto import LocalMosquitto
from libs.local.ports import LOOPBACK, free_port
from services.sinks.frame.contract import Outcome, Part
from services.sinks.kinds.mqtt.sink import MqttSettings, MqttSink
from tests.documents import document_id, flat_document
from tests.flows import part, rows
from tests.integration.test_mqtt_client import subscribed, wait_for

pytestmark = pytest.mark.mosquitto


@contextmanager
def sink_of(server: LocalMosquitto, row_type: RowType = FLOWS, **options: Any) -> Iterator[MqttSink]:
    """Open a sink."""
    sink = MqttSink(MqttSettings.model_validate({"url": server.url, "timeout_seconds": 5} | options), row_type)
    sink.open()
    yield sink
    sink.close()


def test_the_older_version_carries_the_same_payloads(mosquitto: LocalMosquitto) -> None:
    """With MQTT 3.1.1 each row is a message of its JSON, in order, without properties."""
    topic = f"older/{uuid4().hex}"
    with subscribed(mosquitto, topic) as came, sink_of(mosquitto, version="3.1.1", topic=topic) as sink:
        assert sink.write([part(0, rows())]) == Outcome(len(rows()))
        wait_for(came, len(rows()))
    assert [json.loads(message.payload) for message in came] == [flat_document(row) for row in rows()]
    assert all(not getattr(message.properties, "UserProperty", []) for message in came)


def test_a_message_says_which_row_it_is_and_what_form_it_has(mosquitto: LocalMosquitto) -> None:
    """With MQTT 5 a message has the identity of its row and the media type of its format."""
    topic = f"forms/{uuid4().hex}"
    with subscribed(mosquitto, topic) as came, sink_of(mosquitto, format="csv", topic=topic) as sink:
        sink.write([part(0, rows())])
        wait_for(came, len(rows()))
    properties: list[Any] = [message.properties for message in came]
    assert [dict(one.UserProperty)["id"] for one in properties] == [document_id(row) for row in rows()]
    assert {one.ContentType for one in properties} == {"text/csv"}


def test_dead_letters_are_messages_like_any_other(mosquitto: LocalMosquitto) -> None:
    """A dead letter is a message of its JSON under a topic by its code."""
    topic = f"letters/{uuid4().hex}"
    with (
        subscribed(mosquitto, f"{topic}/#") as came,
        sink_of(mosquitto, DEAD_LETTERS, topic=f"{topic}/{{stage}}/{{code}}") as sink,
    ):
        assert sink.write([Part(0, DEAD_LETTERS, DEAD_LETTERS.example_table, (1,))]) == Outcome(1)
        wait_for(came, 1)
    assert came[0].topic == f"{topic}/parser/bad_address"
    assert json.loads(came[0].payload)["bytes_text"] == DEAD_LETTERS.example["bytes_text"]


def test_the_last_message_of_a_topic_can_be_kept(mosquitto: LocalMosquitto) -> None:
    """With retain a subscriber that comes later gets the last message of each topic."""
    topic = f"kept/{uuid4().hex}"
    with sink_of(mosquitto, topic=f"{topic}/{{action}}", retain=True) as sink:
        sink.write([part(0, rows())])
    with subscribed(mosquitto, f"{topic}/#") as came:
        wait_for(came, 2)
    assert {message.topic for message in came} == {f"{topic}/allow", f"{topic}/deny"}


def test_an_idle_connection_stays_and_a_broken_one_is_made_again(mosquitto: LocalMosquitto) -> None:
    """Between writes the connection is kept; when the server has been away the next write connects again."""
    with sink_of(mosquitto, topic="idle") as sink:
        sink.tick()
        sink.write([part(0, rows()[:3])])
        mosquitto.kill()
        sink.tick()
        mosquitto.start()
        sink.tick()
        assert sink.write([part(0, rows()[:3])]) == Outcome(3)


def test_a_server_that_is_not_there_is_named() -> None:
    """A start says which address does not answer."""
    port = free_port()
    sink = MqttSink(MqttSettings(url=f"mqtt://{LOOPBACK}:{port}"), FLOWS)
    with pytest.raises(ServerUnreachable, match=rf"mqtt server 127.0.0.1:{port} does not answer: .*is it running"):
        sink.open()
    sink.close()
