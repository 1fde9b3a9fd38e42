"""Where a RabbitMQ is, how to sign in to it, and the exchange that messages go to: values only."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import StrEnum


class SignIn(StrEnum):
    """How a client shows who it is (SASL mechanisms)."""

    PLAIN = "plain"
    EXTERNAL = "external"


class ExchangeType(StrEnum):
    """How an exchange chooses queues."""

    TOPIC = "topic"
    DIRECT = "direct"
    FANOUT = "fanout"


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange. The one without a name is there always: its routing keys are names of queues."""

    name: str
    kind: ExchangeType = ExchangeType.TOPIC


@dataclass(frozen=True, slots=True)
class Address:
    """Where one node of a cluster listens."""

    host: str
    port: int
    is_tls: bool = False

    def __str__(self) -> str:
        return f"amqp server {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Server:
    """One RabbitMQ, of one or several nodes.

    Attributes:
        addresses: its nodes, at least one.
        vhost: the virtual host.
        sign_in: how to sign in.
        login: user and password, for `SignIn.PLAIN`: secret.
        tls: verifies the nodes and shows our certificate; None if no address uses TLS.
        name: what the server's operators see as the name of a connection.
        heartbeat: seconds of silence after which a connection counts as broken.
        timeout: seconds to wait for a response, or for any progress.
        most_bytes: the largest message that it takes.
    """

    addresses: tuple[Address, ...]
    vhost: str = "/"
    sign_in: SignIn = SignIn.PLAIN
    login: tuple[str, str] = ("guest", "guest")
    tls: ssl.SSLContext | None = None
    name: str = "blobtide"
    heartbeat: int = 60
    timeout: float = 30.0
    most_bytes: int = 134_217_728
