"""Certificates for servers of tests, by the script that makes them for deploy/compose.secure.yaml."""

from __future__ import annotations

from pathlib import Path

from libs.local.ports import LOOPBACK
from libs.local.tls import ServerTls
from tests.secured_kafka import access_script


def server_tls(directory: Path) -> ServerTls:
    """Write a certificate for this machine and its key into `directory`, and the authority that signed it as ``ca.pem``."""
    authority = access_script().Authority()
    certificate, key = authority.issue("server", [LOOPBACK, "localhost"])
    for name, content in {"server.pem": certificate, "server.key": key, "ca.pem": authority.certificate}.items():
        (directory / name).write_bytes(content)
    return ServerTls(directory / "server.pem", directory / "server.key")
