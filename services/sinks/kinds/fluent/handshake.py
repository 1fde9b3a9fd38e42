"""The sign-in of the forward protocol: both sides prove that they know the shared key, and the client perhaps a password.

Neither key nor password is sent, only SHA-512 digests of them with values that the other side, or this one, has made up. The
server speaks first (HELO), is answered (PING), and says whether it is content (PONG).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from libs.common.errors import ConfigError, Retry
from libs.common.security.redaction import excerpt

_HELO_PARTS = 2
_PONG_PARTS = 5


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is proved to a server."""

    hostname: str  # ours
    shared_key: str  # secret
    login: tuple[str, str] | None = None  # user and password: secret


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a server asks for.

    Attributes:
        nonce: goes into the digests of the key.
        user_salt: goes into the digest of the password; empty if it asks for none.
        keeps_alive: whether it takes more than one chunk per connection.
    """

    nonce: bytes
    user_salt: bytes
    keeps_alive: bool


def is_greeting(message: Any) -> bool:
    """Return whether a message of a server is a HELO."""
    return isinstance(message, list) and len(message) == _HELO_PARTS and message[0] == "HELO" and isinstance(message[1], dict)


def read_greeting(server: str, message: Any) -> Greeting:
    """Read a HELO. Raises `Retry` if it is none."""
    if not is_greeting(message):
        raise Retry(f"{server} does not greet as a forward server with a shared key does", kind="protocol")
    options = message[1]
    keeps_alive = options.get("keepalive", True)
    return Greeting(_bytes(options.get("nonce")), _bytes(options.get("auth")), keeps_alive is not False)


def ping(server: str, greeting: Greeting, own: Credentials, salt: bytes) -> list[Any]:
    """Return the answer to a HELO. Raises `ConfigError` if the server asks for a user, and we have none."""
    user, password = own.login or ("", "")
    if greeting.user_salt and own.login is None:
        raise ConfigError(f"{server} asks for a user: set username and password")
    proof = _digest(greeting.user_salt, user.encode(), password.encode()) if greeting.user_salt else ""
    return ["PING", own.hostname, salt, _key_digest(salt, own.hostname, greeting, own), user if proof else "", proof]


def check_pong(server: str, message: Any, greeting: Greeting, own: Credentials, salt: bytes) -> None:
    """Check the server's own proof.

    Raises:
        ConfigError: if it does not let us in, or does not know the key itself.
        Retry: if the message is something else.
    """
    if not (isinstance(message, list) and len(message) == _PONG_PARTS and message[0] == "PONG"):
        raise Retry(f"{server} does not answer a sign-in as a forward server does", kind="protocol")
    _, lets_in, reason, name, proof = message
    if lets_in is not True:
        said = excerpt(reason) if isinstance(reason, str | bytes) and reason else "no reason given"
        raise ConfigError(f"{server} does not let us in ({said}): check shared_key, username and password")
    expected = _key_digest(salt, _text(name), greeting, own)
    if not hmac.compare_digest(expected.encode(), _text(proof).encode(errors="replace")):
        raise ConfigError(f"{server} does not know the shared key: is it another server than the one that was meant?")
    if _text(name) == own.hostname:
        raise ConfigError(f"{server} has the same name as this sink, {own.hostname}: set hostname to another one")


def _key_digest(salt: bytes, hostname: str, greeting: Greeting, own: Credentials) -> str:
    return _digest(salt, hostname.encode(errors="surrogateescape"), greeting.nonce, own.shared_key.encode())


def _digest(*parts: bytes) -> str:
    return hashlib.sha512(b"".join(parts)).hexdigest()


def _bytes(value: Any) -> bytes:
    """Return the bytes of a value that some servers send as text, which need not be UTF-8."""
    if isinstance(value, bytes):
        return value
    return value.encode(errors="surrogateescape") if isinstance(value, str) else b""


def _text(value: Any) -> str:
    return _bytes(value).decode(errors="surrogateescape")
