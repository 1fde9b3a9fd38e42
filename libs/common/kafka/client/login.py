"""The SASL password, and clients that pick up a new one while running.

A password file may change while a process is running. A new client reads it. A running client keeps its password until the
brokers refuse it, and then reads the file again. Open connections stay open.

While the file is missing or empty, for example because it is being replaced in two steps, the last password read is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, Message, Producer

from libs.common.errors import ConfigError
from libs.common.settings.kafka import KafkaSettings
from libs.common.settings.secrets import read_secret

# By file: the last password that this process has read.
_LAST_READ: dict[Path, str] = {}


class LoginClient(Protocol):
    """Of the Kafka client's classes."""

    def set_sasl_credentials(self, username: str, password: str, /) -> None:
        """Use these for new connections."""


def password(kafka: KafkaSettings) -> str:
    """Return the password from the file or the settings.

    Raises:
        ConfigError: if both are given, or the file has no content and has not been read before.
    """
    file = kafka.sasl_password_file
    given = kafka.sasl_password if kafka.sasl_password.get_secret_value() else None
    try:
        text = read_secret("kafka.sasl_password", given, file) or ""
    except ConfigError:
        if given is not None or file not in _LAST_READ:
            raise
        return _LAST_READ[file]
    if file is not None:
        _LAST_READ[file] = text
    return text


class PasswordFileLogin:
    """How one client signs in with a password file. It is the client's `error_cb`, which only records that brokers refuse."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._refused = False
        self.current = password(kafka)

    def __call__(self, error: KafkaError) -> None:
        """Record an error of the client. Called in the midst of a client call, so no client method may be called here."""
        if error.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001
            self._refused = True

    def renew(self, client: LoginClient) -> None:
        """Give `client` the current password of the file, if a different one was refused."""
        if not self._refused:
            return
        self._refused = False
        text = password(self._kafka)
        if text != self.current:
            client.set_sasl_credentials(self._kafka.sasl_username, text)
            self.current = text


class RenewingConsumer(Consumer):
    """A consumer whose `error_cb` is a `PasswordFileLogin`, which is renewed at each `consume`."""

    def __init__(self, config: dict[str, Any], **options: Any) -> None:
        super().__init__(config, **options)
        self._login: PasswordFileLogin = config["error_cb"]

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        """Wait for messages."""
        self._login.renew(self)
        return super().consume(num_messages, timeout)


class RenewingProducer(Producer):
    """A producer whose `error_cb` is a `PasswordFileLogin`, which is renewed at each `poll` and `flush`."""

    def __init__(self, config: dict[str, Any], **options: Any) -> None:
        super().__init__(config, **options)
        self._login: PasswordFileLogin = config["error_cb"]

    def poll(self, timeout: float = -1) -> int:
        """Serve callbacks."""
        self._login.renew(self)
        return super().poll(timeout)

    def flush(self, timeout: float = -1) -> int:
        """Wait for acknowledgements."""
        self._login.renew(self)
        return super().flush(timeout)


RENEWING: dict[Any, Any] = {Consumer: RenewingConsumer, Producer: RenewingProducer}
