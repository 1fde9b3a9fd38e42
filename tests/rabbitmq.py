"""A RabbitMQ with users, rights, a virtual host and TLS, and a reader of its queues that has nothing of ours in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pika
from pika.adapters.blocking_connection import BlockingChannel

from libs.local.ports import LOOPBACK
from libs.local.rabbitmq import LocalRabbitMq, Rules, User
from libs.local.tls import ServerTls
from tests.secured_kafka import access_script

VHOST: Final = "flows"
WRITER: Final = User("writer", "se'cret", VHOST, configure="", write="^rows", read="")
READER: Final = User("reader", "other", VHOST, configure="", write="", read=".*")
CERTIFIED: Final = ("certified", "stranger")  # who have a certificate; only the first is a user
MOST_BYTES: Final = 1_048_576
_HOLDER: Final = User(CERTIFIED[0], uuid4().hex, VHOST)


def guarded_rabbitmq(directory: Path) -> LocalRabbitMq:
    """Return a server; certificates are in its directory `tls`: ca.pem, and NAME.pem and NAME.key of each certified."""
    tls = directory / "tls"
    tls.mkdir()
    authority = access_script().Authority()
    (tls / "ca.pem").write_bytes(authority.certificate)
    for name in ("server", *CERTIFIED):
        certificate, key = authority.issue(name, [LOOPBACK, "localhost"] if name == "server" else ())
        (tls / f"{name}.pem").write_bytes(certificate)
        (tls / f"{name}.key").write_bytes(key)
    identity = ServerTls(tls / "server.pem", tls / "server.key")
    options = (f"max_message_size = {MOST_BYTES}",)
    rules = Rules((WRITER, READER, _HOLDER), (VHOST,), identity, tls / "ca.pem", options=options)
    return LocalRabbitMq(directory / "server", rules=rules)


def tls_directory(server: LocalRabbitMq) -> Path:
    """Return where the certificates of `guarded_rabbitmq` are."""
    return server.data_dir.parent / "tls"


@dataclass(frozen=True, slots=True)
class Came:
    """A message in a queue."""

    key: str
    body: bytes
    properties: Any


class Reader:
    """A user who may do everything, over connections that are made as needed."""

    def __init__(self, server: LocalRabbitMq, vhost: str = "/") -> None:
        self._server = server
        self._vhost = vhost

    @contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """Give a channel."""
        login = pika.PlainCredentials("guest", "guest")
        parameters = pika.ConnectionParameters(LOOPBACK, self._server.port, self._vhost, login)
        connection = pika.BlockingConnection(parameters)
        try:
            yield connection.channel()
        finally:
            connection.close()

    def exchange(self, name: str, kind: str = "topic") -> None:
        """Make a durable exchange."""
        with self.channel() as channel:
            channel.exchange_declare(name, kind, durable=True)

    def queue(self, exchange: str, keys: Sequence[str] = ("#",), arguments: Any = None) -> str:
        """Make a durable queue that gets what is routed by one of these keys, and return its name."""
        with self.channel() as channel:
            name = f"queue.{uuid4().hex}"
            channel.queue_declare(name, durable=True, arguments=arguments)
            for key in keys if exchange else ():
                channel.queue_bind(name, exchange, key)
        return name

    def take(self, queue: str) -> list[Came]:
        """Take everything out of a queue."""
        came: list[Came] = []
        with self.channel() as channel:
            while True:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                if method is None:
                    return came
                came.append(Came(method.routing_key, body, properties))
