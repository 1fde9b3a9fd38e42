"""Certificates for servers of tests, by the script that makes them for deploy/compose.secure.yaml."""

from __future__ import annotations

from pathlib import Path

from libs.local.ports import LOOPBACK
from libs.local.tls import ServerTls
from tests.secured_kafka import access_script


def server_tls(directory: Path) -> ServerTls:
    """Write a certificate for this machine and its key into `directory`, and the authority that signed it as ``ca.pem``."""
    return mutual_tls(directory)[0]


def mutual_tls(directory: Path) -> tuple[ServerTls, ServerTls]:
    """Write certificates for a server and for a client, signed by the same authority."""
    authority = access_script().Authority()
    (directory / "ca.pem").write_bytes(authority.certificate)
    sides = []
    for name, hosts in {"server": [LOOPBACK, "localhost"], "client": []}.items():
        side = ServerTls(directory / f"{name}.pem", directory / f"{name}.key")
        certificate, key = authority.issue(name, hosts)
        side.certificate.write_bytes(certificate)
        side.key.write_bytes(key)
        sides.append(side)
    return sides[0], sides[1]
