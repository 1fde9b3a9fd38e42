"""The MQTT client: what it makes of a server's answers, and what it sends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from libs.common.errors import ConfigError, Retry
from libs.common.messages.dead_letters import ErrorCode
from libs.local.ports import LOOPBACK, free_port
from services.sinks.frame.message_sink import RefusedMessage
from services.sinks.kinds.mqtt.client import Broker, MqttClient, MqttMessage, MqttVersion, _properties
from tests.fakes.mqtt_server import Script, serving

MESSAGES = tuple(MqttMessage(f"flows/{number}", b"payload", (("id", f"g-{number}"),)) for number in range(3))


def publish(
    script: Script,
    messages: tuple[MqttMessage, ...] = MESSAGES,
    version: MqttVersion = MqttVersion.V5,
    max_packet_bytes: int = 0,
) -> list[RefusedMessage]:
    """Publish messages to a server with that script."""
    with serving(script) as port:
        broker = Broker(LOOPBACK, port, "test", version, timeout_seconds=0.5, max_packet_bytes=max_packet_bytes)
        client = MqttClient(broker)
        try:
            return client.publish(messages)
        finally:
            client.close()


@pytest.mark.parametrize(
    ("code", "named"),
    [
        (0x84, "does not speak this version of MQTT: set version"),
        (0x85, "does not accept the client id"),
        (0x86, "does not accept username and password"),
        (0x87, "does not allow it"),
        (0x8A, "has banned this client"),
        (0x9D, "has moved for good"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_the_operators_business(code: int, named: str) -> None:
    """A refused connect says what to change."""
    with pytest.raises(ConfigError, match=rf"mqtt server 127.0.0.1:\d+ {named}.*\(reason code {code}, "):
        publish(Script(welcome=bytes((0, code, 0))))


@pytest.mark.parametrize(("code", "kind"), [(0x88, "busy"), (0x89, "busy"), (0x97, "quota"), (0x9F, "quota"), (0x80, "server")])
def test_a_server_without_room_is_asked_again(code: int, kind: str) -> None:
    """A connect that is refused for a reason that passes is a Retry of its kind."""
    with pytest.raises(Retry, match=f"answers {code}, ") as raised:
        publish(Script(welcome=bytes((0, code, 0))))
    assert raised.value.kind == kind


@pytest.mark.parametrize(
    ("code", "named"),
    [(1, "does not speak this version"), (2, "the client id"), (4, "username and password"), (5, "does not allow it")],
)
def test_a_server_of_the_older_version_that_does_not_let_us_in(code: int, named: str) -> None:
    """The return codes of MQTT 3.1.1 mean the same as those of MQTT 5."""
    with pytest.raises(ConfigError, match=named):
        publish(Script(welcome=bytes((0, code)), v5=False), version=MqttVersion.V3_1_1)


def test_a_server_of_the_older_version_that_is_not_available_is_asked_again() -> None:
    """Return code 3 of MQTT 3.1.1 passes."""
    with pytest.raises(Retry, match="answers 136"):
        publish(Script(welcome=b"\x00\x03", v5=False), version=MqttVersion.V3_1_1)


def test_a_server_that_does_not_take_qos_1_is_named() -> None:
    """A server whose greatest QoS is 0 cannot acknowledge: that is said at the connect."""
    with pytest.raises(ConfigError, match="does not take QoS 1"):
        publish(Script(welcome=b"\x00\x00\x02\x24\x00"))


@pytest.mark.parametrize("code", [0x90, 0x99])
def test_a_refused_message_is_named_and_the_others_are_sent(code: int) -> None:
    """A message that the server refuses for itself is named by its number."""
    script = Script(acknowledge=lambda number: code if number == 1 else 0)
    (refused,) = publish(script)
    assert (refused.message, refused.code) == (1, ErrorCode.REFUSED)
    assert len(script.received) == 3


def test_a_message_without_the_right_is_the_operators_business() -> None:
    """A server that does not let us publish to a topic ends the sink, not the message."""
    with pytest.raises(ConfigError, match="does not allow it"):
        publish(Script(acknowledge=lambda _: 0x87))


@pytest.mark.parametrize(("code", "kind"), [(0x97, "quota"), (0x80, "server"), (0x83, "server")])
def test_a_message_that_is_refused_for_now_is_sent_again(code: int, kind: str) -> None:
    """A failure of the server's own is a Retry."""
    with pytest.raises(Retry) as raised:
        publish(Script(acknowledge=lambda _: code))
    assert raised.value.kind == kind


def test_nobody_listening_is_no_failure() -> None:
    """A message without subscribers is acknowledged like any other."""
    assert publish(Script(acknowledge=lambda _: 0x10)) == []


def test_a_server_that_never_acknowledges_is_given_up() -> None:
    """Without an acknowledgement in time the batch is to be sent again."""
    with pytest.raises(Retry, match="does not acknowledge in time"):
        publish(Script(acknowledge=lambda number: 0 if number else None))


def test_a_server_that_ends_the_connection_says_why() -> None:
    """The reason of a DISCONNECT decides: another client with our id is the operator's business, a shutdown passes."""
    with pytest.raises(ConfigError, match="another client with our id"):
        publish(Script(goodbye=0x8E))
    with pytest.raises(Retry, match="answers 139, "):
        publish(Script(goodbye=0x8B))


def test_a_server_that_is_not_there_is_asked_again() -> None:
    """A port where nobody listens is a Retry."""
    with pytest.raises(Retry, match="does not answer: ConnectionRefusedError"):
        MqttClient(Broker(LOOPBACK, free_port(), "test")).open()


@pytest.mark.parametrize("version", list(MqttVersion))
def test_what_is_too_large_is_not_sent(version: MqttVersion) -> None:
    """A packet of the greatest size is sent, one of a byte more is refused by us: the server would break the connection."""
    message = MqttMessage("flows", b"", (("id", "g-0"),), "application/json")
    publish(first := _script(version), (message,), version)
    size = 200 - len(first.received[0]) - 1  # a packet of more than 127 bytes has a longer length
    messages = tuple(replace(message, payload=b"x" * length) for length in (size, size + 1))
    (refused,) = publish(script := _script(version), messages, version, max_packet_bytes=200)
    assert [len(packet) for packet in script.received] == [200]
    assert (refused.message, refused.code) == (1, ErrorCode.TOO_LARGE)


def _script(version: MqttVersion) -> Script:
    return Script() if version is MqttVersion.V5 else Script(welcome=b"\0\0", v5=False)


def test_the_servers_own_limits_are_kept() -> None:
    """The maximum packet size and the receive maximum of the CONNACK hold: 50 bytes, one message at a time."""
    terms = b"\x27\x00\x00\x00\x32" + b"\x21\x00\x01"
    messages = (MESSAGES[0], MqttMessage("flows", b"x" * 100), MESSAGES[1])
    script = Script(welcome=b"\x00\x00" + bytes((len(terms),)) + terms)
    assert [(bad.message, bad.code) for bad in publish(script, messages)] == [(1, ErrorCode.TOO_LARGE)]
    assert len(script.received) == 2
    with pytest.raises(Retry, match="in time"):  # the second is not sent before the first is acknowledged
        publish(silent := Script(welcome=script.welcome, acknowledge=lambda _: None), MESSAGES)
    assert len(silent.received) == 1


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0b", "a\nb", "a\x85", "\ufffe", "x" * 65_536])
def test_topics_that_mqtt_does_not_have_are_refused(topic: str) -> None:
    """A topic with a wildcard or a control character, an empty one and a too long one cost one message, not the connection."""
    script = Script()
    (refused,) = publish(script, (MESSAGES[0], MqttMessage(topic, b""), MESSAGES[1]))
    assert (refused.message, refused.code) == (1, ErrorCode.REFUSED)
    assert len(script.received) == 2


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\0"), max_size=200)


@given(st.lists(st.tuples(NAMES, NAMES), max_size=5), NAMES)
def test_properties_are_as_the_library_reads_them(own: list[tuple[str, str]], content_type: str) -> None:
    """Whatever they are, the properties of a message are read back as they were."""
    packed = _properties(MqttMessage("flows", b"", tuple(own), content_type)).pack()  # type: ignore[no-untyped-call]
    read = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    _, length = read.unpack(packed)  # type: ignore[no-untyped-call]
    assert length == len(packed)
    assert getattr(read, "UserProperty", []) == own
    assert getattr(read, "ContentType", "") == content_type
