"""The MQTT client at a real Mosquitto, in both versions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from libs.common.errors import ConfigError, Retry
from libs.common.messages.dead_letters import ErrorCode
from libs.local.mosquitto import LocalMosquitto, Rules
from libs.local.ports import LOOPBACK
from services.sinks.kinds.mqtt.client import Broker, MqttClient, MqttMessage, MqttTls, MqttVersion
from tests.certificates import server_tls
from tests.fixtures.servers import serving

pytestmark = pytest.mark.mosquitto
SECONDS = 30.0
LOGIN = ("writer", "se'cret")


@contextmanager
def subscribed(server: LocalMosquitto, topics: str) -> Iterator[list[mqtt.MQTTMessage]]:
    """Yield the messages that come to the topics, as they come."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    came: list[mqtt.MQTTMessage] = []
    ready: list[int] = []
    client.on_message = lambda _client, _data, message: came.append(message)
    client.on_subscribe = lambda *_: ready.append(1)
    client.connect(LOOPBACK, server.port)
    client.subscribe(topics, qos=1)
    client.loop_start()
    try:
        wait_for(ready, 1)
        yield came
    finally:
        client.disconnect()
        client.loop_stop()


def wait_for(things: list[mqtt.MQTTMessage] | list[int], number: int) -> None:
    """Wait until there are so many."""
    deadline = time.monotonic() + SECONDS
    while len(things) < number:
        assert time.monotonic() < deadline, f"{len(things)} instead of {number}"
        time.sleep(0.01)


def broker(server: LocalMosquitto, version: MqttVersion = MqttVersion.V5) -> Broker:
    """Return how to get to a server."""
    return Broker(LOOPBACK, server.port, "test", version, timeout_seconds=10)


@contextmanager
def ruled(directory: Path, rules: Rules) -> Iterator[LocalMosquitto]:
    """Run a server with rules of its own."""
    server = LocalMosquitto(directory / "server", rules=rules)
    with serving(server):
        yield server


@contextmanager
def opened(broker: Broker) -> Iterator[MqttClient]:
    """Give a client and close it."""
    client = MqttClient(broker)
    try:
        yield client
    finally:
        client.close()


@pytest.mark.parametrize("version", list(MqttVersion))
def test_messages_arrive_with_what_they_are(version: MqttVersion, mosquitto: LocalMosquitto) -> None:
    """Every message arrives in order, with its topic and payload; with MQTT 5 also with its properties."""
    topic = f"arrive/{version}"
    messages = [MqttMessage(f"{topic}/{n % 3}", b"%d" % n, (("id", f"g-{n}"),), "application/json") for n in range(2_000)]
    with subscribed(mosquitto, f"{topic}/#") as came, opened(broker(mosquitto, version)) as client:
        assert client.publish(messages) == []
        wait_for(came, len(messages))
    assert [(one.topic, one.payload) for one in came] == [(one.topic, one.payload) for one in messages]
    if version is MqttVersion.V5:
        properties: list[Any] = [one.properties for one in came]
        assert [one.UserProperty for one in properties] == [list(one.properties) for one in messages]
        assert {one.ContentType for one in properties} == {"application/json"}


def test_what_is_too_large_for_the_server_costs_one_message(tmp_path: Path) -> None:
    """The server says how large a packet may be; a larger one is refused, and its neighbours arrive."""
    rules = Rules(max_packet_bytes=1_000)
    with ruled(tmp_path, rules) as server, opened(broker(server)) as client, subscribed(server, "#") as came:
        (refused,) = client.publish([MqttMessage("a", b"x" * size) for size in (980, 1_000, 10)])
        wait_for(came, 2)
    assert (refused.message, refused.code) == (1, ErrorCode.TOO_LARGE)
    assert [len(message.payload) for message in came] == [980, 10]


@pytest.mark.parametrize("version", list(MqttVersion))
def test_a_wrong_password_is_the_operators_business(version: MqttVersion, tmp_path: Path) -> None:
    """A server that does not know us is a ConfigError, and lets us in with the right password."""
    with ruled(tmp_path, Rules(login=LOGIN)) as server:
        with opened(replace(broker(server, version), login=LOGIN)) as client:
            assert client.publish([MqttMessage("a", b"")]) == []
        with (
            opened(replace(broker(server, version), login=("writer", "other"))) as client,
            pytest.raises(ConfigError) as raised,
        ):
            client.open()
        assert "other" not in str(raised.value)


def test_a_missing_right_is_the_operators_business(tmp_path: Path) -> None:
    """A topic to which we may not publish ends the sink instead of losing what is published there."""
    with ruled(tmp_path, Rules(rights=("topic write mine/#",))) as server, opened(broker(server)) as client:
        assert client.publish([MqttMessage("mine/a", b"")]) == []
        with pytest.raises(ConfigError, match=r"does not allow it: the user needs the right .*Not authorized"):
            client.publish([MqttMessage("mine/a", b""), MqttMessage("yours/a", b"")])


# The library leaves a socket to the collector when the handshake fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_certificates_are_checked(tmp_path: Path) -> None:
    """Over TLS a server is trusted if its authority is, or if nothing is to be checked."""
    with ruled(tmp_path, Rules(tls=server_tls(tmp_path))) as server:
        for tls in (MqttTls(ca_file=tmp_path / "ca.pem"), MqttTls(verify=False)):
            with opened(replace(broker(server), tls=tls)) as client:
                assert client.publish([MqttMessage("a", b"")]) == []
        with (
            opened(replace(broker(server), tls=MqttTls())) as client,
            pytest.raises(ConfigError, match=r"not trusted.*set ca_file"),
        ):
            client.open()


@pytest.mark.parametrize("version", list(MqttVersion))
def test_a_server_that_was_gone_is_connected_to_again(version: MqttVersion, mosquitto: LocalMosquitto) -> None:
    """While the server is away a publish is a Retry; when it is back the same client goes on."""
    with opened(broker(mosquitto, version)) as client:
        client.publish([MqttMessage("back", b"1")])
        mosquitto.kill()
        with pytest.raises(Retry):
            client.publish([MqttMessage("back", b"2")])
        client.keep_alive()
        mosquitto.start()
        with subscribed(mosquitto, "back") as came:
            assert client.publish([MqttMessage("back", b"2")]) == []
            wait_for(came, 1)
        mosquitto.kill()
        client.keep_alive()
        mosquitto.start()
        assert client.publish([MqttMessage("back", b"3")]) == []
