"""The password of the brokers: where it comes from, and how a client that runs gets another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer

from libs.common.errors import ConfigError
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.client.configs import consumer_config, make_client, producer_config
from libs.common.kafka.client.login import PasswordFileLogin, password
from libs.common.settings.kafka import KafkaSettings, SecurityProtocol

REFUSED = KafkaError(KafkaError._AUTHENTICATION, "Invalid username or password")
AWAY = KafkaError(KafkaError._TRANSPORT, "Connection refused")


class _Client:
    def __init__(self) -> None:
        self.given: list[tuple[str, str]] = []

    def set_sasl_credentials(self, username: str, password: str) -> None:
        self.given.append((username, password))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a password file that holds `one`."""
    file = tmp_path / "password"
    file.write_text("one\n")
    return file


@pytest.fixture
def guarded(file: Path) -> KafkaSettings:
    """Return settings with that file."""
    return KafkaSettings(
        bootstrap_servers="127.0.0.1:1",
        security_protocol=SecurityProtocol.SASL_PLAINTEXT,
        allow_plaintext_credentials=True,
        sasl_username="u",
        sasl_password_file=file,
    )


def test_a_refused_client_is_given_what_the_file_says_now(guarded: KafkaSettings, file: Path) -> None:
    """Only a login that is refused makes the file be read again, and only another password is given, once."""
    login, client = PasswordFileLogin(guarded), _Client()
    login(REFUSED)
    login.renew(client)
    file.write_text("two\n")
    login(AWAY)
    login.renew(client)
    assert client.given == []
    login(REFUSED)
    login.renew(client)
    login(REFUSED)
    login.renew(client)
    assert client.given == [("u", "two")]


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: file.write_text(""), lambda file: file.write_bytes(b"\xff")])
def test_while_a_file_is_replaced_the_last_password_serves(
    guarded: KafkaSettings, file: Path, spoil: Callable[[Path], object]
) -> None:
    """A file that is away, empty or half written ends nothing once it has been read; new clients take what it held."""
    login, client = PasswordFileLogin(guarded), _Client()
    spoil(file)
    assert producer_config(guarded)["sasl.password"] == "one"
    login(REFUSED)
    login.renew(client)
    assert client.given == []
    file.write_text("two\n")
    assert producer_config(guarded)["sasl.password"] == "two"


def test_a_file_that_was_never_read_is_asked_for(guarded: KafkaSettings, file: Path) -> None:
    """At the first start a missing file is an error that names it."""
    file.unlink()
    with pytest.raises(ConfigError, match=f"cannot read kafka.sasl_password_file {file}"):
        password(guarded)


@pytest.mark.parametrize("kind", [Consumer, Producer])
def test_a_client_looks_after_its_login_between_its_calls(guarded: KafkaSettings, file: Path, kind: Any) -> None:
    """What brokers refuse is noted inside a client's call and acted on before its next one, where the client allows it."""
    config = consumer_config(guarded, "g") if kind is Consumer else producer_config(guarded)
    client = make_client(kind, config, ClientLog("c"))
    login = config["error_cb"]
    file.write_text("two\n")
    login(REFUSED)
    assert login.current == "one"
    if kind is Consumer:
        client.consume(1, 0.01)
        client.close()
    else:
        client.poll(0.01)
        assert login.current == "two"
        file.write_text("three\n")
        login(REFUSED)
        client.flush(0.01)
    assert login.current == ("two" if kind is Consumer else "three")
