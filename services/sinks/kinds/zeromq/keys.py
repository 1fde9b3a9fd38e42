"""CURVE keys from certificate files, in the format of ZeroMQ's own tools (`zmq.auth.create_certificates`, `curve_keygen`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import zmq.auth
from zmq.utils import z85

from libs.common.errors import ConfigError
from libs.common.security.redaction import remember
from services.sinks.kinds.zeromq.settings import ZeroMqSettings

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """The keys of one side, as Z85 text.

    Attributes:
        public, secret: our own.
        server: the peer's public key, if the peer is the server.
        clients: the public keys of the peers that may connect, if we are the server; None lets in everybody.
    """

    public: bytes
    secret: bytes = field(repr=False)
    server: bytes | None = None
    clients: frozenset[bytes] | None = None


def read_keys(settings: ZeroMqSettings) -> CurveKeys | None:
    """Read the certificate files; None if the connection is not encrypted.

    Raises:
        ConfigError: if a file is missing or is not a certificate, without quoting it.
    """
    if settings.curve_key_file is None:
        return None
    public, secret = _certificate("curve_key_file", settings.curve_key_file)
    if secret is None:
        raise ConfigError(
            f"curve_key_file {settings.curve_key_file} has no secret key; give the file whose name ends in .key_secret"
        )
    remember(secret.decode())
    if settings.curve_server_key_file is not None:
        return CurveKeys(public, secret, server=_certificate("curve_server_key_file", settings.curve_server_key_file)[0])
    return CurveKeys(public, secret, clients=_clients(settings.curve_clients_directory))


def _clients(directory: Path | None) -> frozenset[bytes] | None:
    if directory is None:
        return None
    files = sorted(directory.glob("*.key"))
    if not files:
        raise ConfigError(f"curve_clients_directory {directory} has no certificate (*.key), so nobody could connect")
    return frozenset(_certificate("curve_clients_directory:", file)[0] for file in files)


def _certificate(setting: str, file: Path) -> tuple[bytes, bytes | None]:
    """Return the public key of a certificate, and the secret key if it has one."""
    try:
        public, secret = zmq.auth.load_certificate(file)
    except (OSError, ValueError) as error:  # ValueError: there is no public key
        raise ConfigError(f"{setting} {file} is not there, cannot be read, or is not a CURVE certificate") from error
    for key in (public, secret):
        if key is not None and not _is_key(key):
            raise ConfigError(f"{setting} {file} has a key that is not 40 characters of Z85")
    return public, secret


def _is_key(text: bytes) -> bool:
    decode: Callable[[bytes], bytes] = z85.decode
    try:
        return len(decode(text)) == _KEY_BYTES
    except (KeyError, ValueError, ArithmeticError):  # the library raises each of them for a character that is not Z85
        return False
