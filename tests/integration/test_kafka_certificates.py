"""Servers whose certificates are not to be trusted: what a start says of each. TLS is real, Kafka is never reached."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from libs.common.errors import ServerUnreachable
from libs.common.kafka.client.configs import check_reachable
from libs.common.settings.kafka import KafkaSettings, SecurityProtocol
from libs.local.ports import LOOPBACK
from tests.secured_kafka import access_script

ACCESS = access_script()


@contextmanager
def showing(certificate: bytes, directory: Path) -> Iterator[str]:
    """Shake hands with whoever connects, with a certificate and its key, and yield the address."""
    file = directory / "server.pem"
    file.write_bytes(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with socket.create_server((LOOPBACK, 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client, suppress(OSError), context.wrap_socket(client, server_side=True) as shaken:
                        shaken.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"{LOOPBACK}:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("days", "host", "trusted", "said"),
    [
        (30, "elsewhere", "its own", "is for another host name: use a name from the certificate in kafka.bootstrap_servers"),
        (-1, LOOPBACK, "its own", "has expired"),
        (30, LOOPBACK, "another", "is not signed by a trusted CA: check kafka.ssl_ca_location"),
    ],
    ids=["name", "expired", "authority"],
)
def test_a_start_says_what_is_wrong_with_a_certificate(days: int, host: str, trusted: str, said: str, tmp_path: Path) -> None:
    """Another name, an end that has passed and an unknown CA are told apart, with what to do about each."""
    authority = ACCESS.Authority(days)
    (tmp_path / "ca.pem").write_bytes((authority if trusted == "its own" else ACCESS.Authority()).certificate)
    certificate, key = authority.issue("kafka", [host])
    with showing(key + certificate, tmp_path) as address:
        kafka = KafkaSettings(
            bootstrap_servers=address, security_protocol=SecurityProtocol.SSL, ssl_ca_location=tmp_path / "ca.pem"
        )
        with pytest.raises(ServerUnreachable) as refused:
            check_reachable(kafka, seconds=2)
    assert f"the certificate of {address} {said}" in str(refused.value)
