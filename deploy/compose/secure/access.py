#!/usr/bin/env python3
"""Certificates, passwords, users and rights for deploy/compose.secure.yaml, whose two one-shot services run this.

``certificates DIRECTORY USER...`` fills one directory for each who needs secrets, and leaves alone what is there:

    kafka/   broker.pem (key and certificate), ca.pem
    access/  admin.pem, admin.key, ca.pem, and the password of each user
    USER/    password, ca.pem

The key of the CA is kept nowhere. For new certificates and passwords remove the directories. ``grant DIRECTORY USER...`` has
Kafka, which the settings lead to as the administrator, accept the passwords in DIRECTORY, and gives each user its rights.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

DAYS: Final = 825
KAFKA_HOSTS: Final = ("kafka", "localhost", "127.0.0.1")
ITERATIONS: Final = 8192
SECONDS: Final = 60.0


class Authority:
    """A CA that lives as long as this process."""

    def __init__(self, days: int = DAYS) -> None:
        self._days = days
        self._key = _key()
        self._name = _name("blobtide-compose")
        self._certificate = self._signed("blobtide-compose", self._key, (), is_ca=True)

    @property
    def certificate(self) -> bytes:
        """The CA's certificate, PEM."""
        return _pem(self._certificate)

    def issue(self, name: str, hosts: Sequence[str] = ()) -> tuple[bytes, bytes]:
        """Return the certificate and the key, both PEM, of `name`, who may be a server under `hosts`."""
        key = _key()
        return _pem(self._signed(name, key, hosts, is_ca=False)), _pem_of_key(key)

    def _signed(self, name: str, key: EllipticCurvePrivateKey, hosts: Sequence[str], *, is_ca: bool) -> x509.Certificate:
        from cryptography import x509
        from cryptography.hazmat.primitives.hashes import SHA256

        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=max(1, 1 - self._days)))
            .not_valid_after(now + timedelta(days=self._days, minutes=-1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        return builder.sign(self._key, SHA256())


def certificates(directory: Path, users: Sequence[str]) -> None:
    """Fill the directories, unless it has been done."""
    done = directory / "access" / "done"
    if done.exists():
        return
    authority = Authority()
    certificate, key = authority.issue("kafka", KAFKA_HOSTS)
    _write(directory / "kafka" / "broker.pem", key + certificate)
    certificate, key = authority.issue("admin")
    _write(directory / "access" / "admin.pem", certificate)
    _write(directory / "access" / "admin.key", key)
    for name in ("kafka", "access", *users):
        _write(directory / name / "ca.pem", authority.certificate)
    for user in users:
        password = secrets.token_urlsafe(32).encode()
        _write(directory / "access" / f"{user}.password", password)
        _write(directory / user / "password", password)
    _write(done, b"")


def grant(directory: Path, users: Sequence[str]) -> int:
    """Make the users and give them their rights; return the exit code."""
    from services.cli.main import run

    accept(directory, users)
    return run(["acls", "apply", *users])


def accept(directory: Path, users: Sequence[str]) -> None:
    """Have Kafka let the users in with their passwords."""
    from confluent_kafka.admin import (  # type: ignore[attr-defined]
        ScramCredentialInfo,
        ScramMechanism,
        UserScramCredentialUpsertion,
    )

    from libs.common.kafka.client.configs import check_reachable, make_admin
    from libs.common.settings import load_settings

    kafka = load_settings(None).kafka
    check_reachable(kafka, seconds=SECONDS)
    admin = make_admin(kafka)
    how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    changes = [UserScramCredentialUpsertion(user, how, (directory / f"{user}.password").read_bytes()) for user in users]
    for future in admin.alter_user_scram_credentials(changes).values():
        future.result(SECONDS)


def main(command: str, directory: str, *users: str) -> int:
    """Do what the first argument says."""
    if command == "certificates":
        certificates(Path(directory), users)
        return 0
    return grant(Path(directory), users)


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    file.chmod(0o444)  # its reader has another user id, and the volume is mounted nowhere else


def _key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _name(name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _pem_of_key(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
