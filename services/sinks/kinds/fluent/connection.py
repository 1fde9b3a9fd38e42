"""One connection to a forward server: sign in, send chunks, read acknowledgements. All calls come from one thread.

Whatever goes wrong is one of two: `Retry`, after which the connection is of no more use, and `ConfigError`.
"""

from __future__ import annotations

import secrets
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgpack

from libs.common.errors import ConfigError, Retry
from services.sinks.kinds.fluent.handshake import Credentials, check_pong, is_greeting, ping, read_greeting
from services.sinks.kinds.fluent.settings import ENCRYPTED, PORT

_CONNECT_SECONDS: Final = 5.0
_WAIT_SECONDS: Final = 0.5  # between two beats
_READ_BYTES: Final = 65_536
_SALT_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Access:
    """How to connect to any of the servers."""

    credentials: Credentials | None = None
    tls: ssl.SSLContext | None = None  # for addresses with TLS
    timeout_seconds: float = 30.0
    clock: Callable[[], float] = time.monotonic


class Connection:
    """One connection, signed in."""

    def __init__(self, address: str, access: Access, beat: Callable[[], None]) -> None:
        self.address = address
        self.keeps_alive = True
        self._access = access
        self._beat = beat
        self._socket: socket.socket | None = None
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, unicode_errors="surrogateescape")
        self._acknowledged: set[str] = set()

    @classmethod
    def made(cls, address: str, access: Access, beat: Callable[[], None]) -> Connection:
        """Connect and sign in.

        Raises:
            Retry: if the server does not answer, or not as such a server does.
            ConfigError: if it does not let us in, or its certificate is not trusted.
        """
        connection = cls(address, access, beat)
        try:
            connection._connect()
            if access.credentials is not None:
                connection._sign_in(access.credentials)
        except BaseException:
            connection.close()
            raise
        return connection

    def send(self, message: bytes) -> None:
        """Send a message; returns when the system has taken all of it. Raises `Retry`."""
        left = memoryview(message)
        deadline = self._deadline()
        while left:
            try:
                sent = self._open_socket().send(left)
            except TimeoutError:
                self._beat()
                if self._access.clock() > deadline:
                    raise Retry(f"{self} takes no more data") from None
                continue
            except OSError as error:
                raise self._gone(error) from error
            left = left[sent:]
            deadline = self._deadline()

    def wait_for(self, chunk: str) -> None:
        """Return when a chunk is acknowledged.

        Raises:
            Retry: if it is not in time, or the connection breaks.
            ConfigError: if the server asks for a sign-in.
        """
        deadline = self._deadline()
        while chunk not in self._acknowledged:
            message = self._message(deadline, "does not acknowledge in time; does it answer chunks (Fluentd, Fluent Bit)?")
            if is_greeting(message):
                raise ConfigError(f"{self} asks for a shared key: set shared_key")
            if not isinstance(message, dict) or not isinstance(message.get("ack"), str):
                raise Retry(f"{self} answers something else than an acknowledgement", kind="protocol")
            self._acknowledged.add(message["ack"])
        self._acknowledged.discard(chunk)

    def close(self) -> None:
        """Close; idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __str__(self) -> str:
        return f"the forward server {self.address}"

    def _connect(self) -> None:
        parts = urlsplit(self.address)
        host, port = str(parts.hostname), parts.port or PORT
        try:
            plain = socket.create_connection((host, port), min(_CONNECT_SECONDS, self._access.timeout_seconds))
            self._socket = plain
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._access.tls is not None and parts.scheme == ENCRYPTED:
                self._socket = self._access.tls.wrap_socket(plain, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            raise ConfigError(f"{self}: its certificate is not trusted: {error.verify_message}; set ca_file") from error
        except (OSError, ValueError) as error:  # ValueError: an invalid host name
            raise Retry(f"{self} does not answer: {type(error).__name__}") from error
        self._socket.settimeout(_WAIT_SECONDS)

    def _sign_in(self, own: Credentials) -> None:
        deadline = self._deadline()
        said = "asks for no shared key, or does not answer in time; leave out shared_key if it has none"
        greeting = read_greeting(str(self), self._message(deadline, said))
        salt = secrets.token_bytes(_SALT_BYTES)
        self.send(msgpack.packb(ping(str(self), greeting, own, salt)))
        check_pong(str(self), self._message(deadline, "does not answer the sign-in in time"), greeting, own, salt)
        self.keeps_alive = greeting.keeps_alive

    def _message(self, deadline: float, late: str) -> Any:
        """Return the next message of the server. Raises `Retry`."""
        while True:
            try:
                return next(self._unpacker)
            except StopIteration:
                self._unpacker.feed(self._read(deadline, late))
            except (ValueError, msgpack.UnpackException) as error:
                raise Retry(f"{self} answers something that is not MessagePack", kind="protocol") from error

    def _read(self, deadline: float, late: str) -> bytes:
        while True:
            try:
                data = self._open_socket().recv(_READ_BYTES)
            except TimeoutError:
                self._beat()
                if self._access.clock() > deadline:
                    raise Retry(f"{self} {late}", kind="no_acknowledgement") from None
                continue
            except OSError as error:
                raise self._gone(error) from error
            if not data:
                raise Retry(f"{self} has closed the connection")
            return data

    def _open_socket(self) -> socket.socket:
        if self._socket is None:
            raise Retry(f"the connection to {self.address} is closed")
        return self._socket

    def _deadline(self) -> float:
        return self._access.clock() + self._access.timeout_seconds

    def _gone(self, error: OSError) -> Retry:
        return Retry(f"the connection to {self} is broken: {type(error).__name__}")
