"""An MQTT 5 or 3.1.1 server that gives the answers it is told to: those that Mosquitto gives only in a bad hour."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from libs.local.ports import LOOPBACK

_PUBLISH = 0x30
_CONNECT = 0x10
_DISCONNECT = 0xE0


@dataclass
class Script:
    """What the server answers.

    Attributes:
        welcome: the body of the CONNACK, behind its length.
        acknowledge: takes the number of a message, from 0, and returns the reason code of its PUBACK; None: none is sent.
        goodbye: reason code of a DISCONNECT that is sent when the first message comes; None: none.
        v5: whether PUBACK has a reason code.
        received: each PUBLISH packet, whole.
    """

    welcome: bytes = b"\x00\x00\x00"
    acknowledge: Callable[[int], int | None] = lambda _: 0
    goodbye: int | None = None
    v5: bool = True
    received: list[bytes] = field(default_factory=list)


@contextmanager
def serving(script: Script) -> Iterator[int]:
    """Serve one connection after the other; yield the port."""
    with socket.create_server((LOOPBACK, 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client, suppress(OSError, EOFError):
                        _converse(client, script)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _converse(client: socket.socket, script: Script) -> None:
    while True:
        packet, body = _packet(client)
        kind = packet[0] & 0xF0
        if kind == _CONNECT:
            client.sendall(bytes((0x20, len(script.welcome))) + script.welcome)
        elif kind == _DISCONNECT:
            return
        elif kind == _PUBLISH:
            if script.goodbye is not None:
                client.sendall(bytes((_DISCONNECT, 1, script.goodbye)))
                while client.recv(65_536):  # to close with something unread would take back what was sent
                    pass
                return
            code = script.acknowledge(len(script.received))
            script.received.append(packet)
            topic = int.from_bytes(body[:2], "big")
            message_id = body[2 + topic : 4 + topic]
            if code is not None:
                answer = message_id + (bytes((code,)) if script.v5 else b"")
                client.sendall(bytes((0x40, len(answer))) + answer)


def _packet(client: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(client, 2)
    while head[-1] & 0x80:
        head += _exactly(client, 1)
    length = sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(head[1:]))
    body = _exactly(client, length)
    return head + body, body


def _exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = client.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data
