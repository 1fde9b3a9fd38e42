"""A forward server that does what it is told to: what a real one does only in a bad hour, or not at all."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgpack

from libs.local.ports import LOOPBACK

NONCE = b"\xff\xfenonce"


@dataclass
class Script:
    """What the server does.

    Attributes:
        helo: the options of its greeting; None: it greets nobody.
        pong: what it answers a PING, given the PING.
        answer: takes the number of a chunk, from 0, and returns what is sent back; None: the connection is closed.
        closes_after: how many chunks it takes on a connection; None: any number.
        received: the messages, as ``[tag, entries, option]``, in order.
        pings: the answers to its greetings.
        connections: how many there were.
    """

    helo: dict[str, Any] | None = None
    pong: Callable[[list[Any]], Any] = lambda _: ["PONG", True, "", "server", ""]
    answer: Callable[[int, str], bytes | None] = lambda _, chunk: msgpack.packb({"ack": chunk})
    closes_after: int | None = None
    received: list[Any] = field(default_factory=list)
    pings: list[Any] = field(default_factory=list)
    connections: int = 0


def proof(ping: list[Any], key: str, hostname: str = "server") -> list[Any]:
    """Return the PONG of a server that knows the key."""
    digest = hashlib.sha512(ping[2] + hostname.encode() + NONCE + key.encode()).hexdigest()
    return ["PONG", True, "", hostname, digest]


@contextmanager
def serving(script: Script) -> Iterator[str]:
    """Serve any number of connections; yield the address."""
    with socket.create_server((LOOPBACK, 0)) as server:
        threads: list[threading.Thread] = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    script.connections += 1
                    thread = threading.Thread(target=_converse, args=(client, script), daemon=True)
                    thread.start()
                    threads.append(thread)

        accepting = threading.Thread(target=serve, daemon=True)
        accepting.start()
        yield f"tcp://{LOOPBACK}:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        for thread in (accepting, *threads):
            thread.join()


def _converse(client: socket.socket, script: Script) -> None:
    with client, suppress(OSError):
        if script.helo is not None:
            client.sendall(msgpack.packb(["HELO", script.helo]))
        unpacker = msgpack.Unpacker(raw=False, ext_hook=lambda code, data: (code, data))
        taken = 0
        while data := client.recv(65_536):
            unpacker.feed(data)
            for message in unpacker:
                if message[0] == "PING":
                    script.pings.append(message)
                    client.sendall(msgpack.packb(script.pong(message)))
                    continue
                answer = script.answer(len(script.received), message[2]["chunk"])
                script.received.append(message)
                taken += 1
                if answer is None:
                    return
                client.sendall(answer)
                if taken == script.closes_after:
                    return
