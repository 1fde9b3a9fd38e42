"""Settings of the mqtt sink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from libs.common.errors import ConfigError
from libs.common.rows.types.flows import FLOWS
from services.sinks.kinds.mqtt.sink import MqttSettings, MqttSink, _broker


def settings(**options: Any) -> MqttSettings:
    """Return settings with these options."""
    return MqttSettings.model_validate(options)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h", r"give addresses as mqtt://host\[:port\]"),
        ("mqtt://", "give addresses as mqtt://host"),
        ("mqtt://h/path", "has no path"),
        ("mqtt://h:99999", "the port must be a number"),
        ("mqtt://user:secret@h", "not in the address"),
    ],
)
def test_an_address_is_a_host_and_a_port(url: str, said: str) -> None:
    """Only mqtt(s)://host[:port] is an address, and what is wrong is said without quoting it."""
    with pytest.raises(ValidationError, match=said):
        settings(url=url)


def test_ports_follow_the_scheme() -> None:
    """Without a port it is the usual one: 1883, and 8883 with TLS."""
    assert (_broker(settings(url="mqtt://h")).port, _broker(settings(url="mqtt://h")).tls) == (1883, None)
    secure = _broker(settings(url="mqtts://h"))
    assert secure.port == 8883
    assert secure.tls is not None


def test_every_process_has_a_client_id_of_its_own() -> None:
    """Two processes of one sink do not throw each other out; an id has at most the 23 characters that every server takes."""
    first, second = (_broker(settings()).client_id for _ in range(2))
    assert first != second
    assert first.startswith("blobtide-")
    assert len(first) <= 23


def test_a_password_goes_with_a_user_and_only_over_tls(tmp_path: Path) -> None:
    """Credentials for another machine need TLS, unless that is waived; a password alone is a mistake."""
    with pytest.raises(ValidationError, match="must be given together"):
        settings(password="secret")  # noqa: S106
    with pytest.raises(ValidationError, match="must be given together"):
        settings(username="u")
    login = {"username": "u", "password": "secret"}
    with pytest.raises(ConfigError, match="unencrypted"):
        MqttSink(settings(url="mqtt://h", **login), FLOWS).read_files()
    for more in ({"url": "mqtts://h"}, {"url": "mqtt://h", "allow_plaintext_credentials": True}, {"url": "mqtt://127.0.0.1"}):
        MqttSink(settings(**login, **more), FLOWS).read_files()
    with pytest.raises(ConfigError, match=r"ca_file .*nothing does not exist"):
        MqttSink(settings(url="mqtts://h", ca_file=tmp_path / "nothing"), FLOWS).read_files()


@pytest.mark.parametrize("topic", ["flows/#", "flows/+/x", "a\nb"])
def test_a_topic_that_mqtt_has_not_is_refused_at_the_start(topic: str) -> None:
    """The fixed text of a topic is checked before anything is sent."""
    with pytest.raises(ConfigError, match="topic: a topic has no wildcard"):
        MqttSink(settings(topic=topic), FLOWS)


def test_a_key_is_refused() -> None:
    """MQTT has no keys, so one in the settings is a mistake that is not passed over."""
    with pytest.raises(ValidationError, match="MQTT messages have no key"):
        settings(key="{src_ip}")
