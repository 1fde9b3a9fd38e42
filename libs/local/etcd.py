"""A local etcd, as installed on the machine, with its JSON gateway: a single member, or one of several."""

from __future__ import annotations

import http.client
import os
import shutil
import ssl
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from libs.local.errors import ServerMissing
from libs.local.ports import LOOPBACK, free_port
from libs.local.process import Launch, LocalServer
from libs.local.tls import ServerTls


@dataclass(frozen=True, slots=True)
class Terms:
    """What the server requires of its clients, and its limits. Without any, it lets everybody in.

    Attributes:
        tls: its own certificate.
        client_ca: the authority of client certificates, which are then required.
        client: a client certificate with its key, by which we find out whether it is ready.
        options: further options of its command line.
    """

    tls: ServerTls | None = None
    client_ca: Path | None = None
    client: ServerTls | None = None
    options: tuple[str, ...] = field(default=())


class LocalEtcd(LocalServer):
    """A member. Acknowledged writes survive `kill`; a start takes about a second."""

    name = "etcd"

    def __init__(self, data_dir: Path, port: int | None = None, terms: Terms | None = None) -> None:
        super().__init__(data_dir, port)
        self.terms = terms or Terms()
        self.members: Sequence[LocalEtcd] = (self,)

    @classmethod
    def install(cls) -> None:
        """Check that the program is installed; it is not fetched."""
        find_etcd()

    @property
    def url(self) -> str:
        """The client URL."""
        return f"{'https' if self.terms.tls else 'http'}://{LOOPBACK}:{self.port}"

    @cached_property
    def _peer_url(self) -> str:
        return f"http://{LOOPBACK}:{free_port()}"

    @property
    def _member_name(self) -> str:
        return f"member-{self.port}"

    def _launch(self) -> Launch:
        options = {
            "name": self._member_name,
            "data-dir": str(self.data_dir.resolve() / "data"),
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": self._peer_url,
            "initial-advertise-peer-urls": self._peer_url,
            "initial-cluster": ",".join(f"{one._member_name}={one._peer_url}" for one in self.members),  # noqa: SLF001 - its own kind
        }
        if self.terms.tls:
            options |= {"cert-file": str(self.terms.tls.certificate.resolve()), "key-file": str(self.terms.tls.key.resolve())}
        if self.terms.client_ca:
            options |= {"client-cert-auth": "true", "trusted-ca-file": str(self.terms.client_ca.resolve())}
        arguments = (f"--{name}={value}" for name, value in options.items())
        return Launch((find_etcd(), *arguments, *self.terms.options), ready=self._is_healthy)

    def _is_healthy(self) -> bool:
        """Return whether the member takes part in a cluster with a leader."""
        try:
            with closing(self._connection()) as connection:
                connection.request("GET", "/health")
                return b'"true"' in connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False

    def _connection(self) -> http.client.HTTPConnection:
        if not self.terms.tls:
            return http.client.HTTPConnection(LOOPBACK, self.port, timeout=5)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # we started it ourselves
        if self.terms.client:
            context.load_cert_chain(self.terms.client.certificate, self.terms.client.key)
        return http.client.HTTPSConnection(LOOPBACK, self.port, timeout=5, context=context)


def cluster_of(directory: Path, members: int = 3) -> list[LocalEtcd]:
    """Return members of one cluster; each becomes ready when most of them have begun."""
    cluster = [LocalEtcd(directory / f"member{number}") for number in range(members)]
    for member in cluster:
        member.members = cluster
    return cluster


def find_etcd(environ: Mapping[str, str] = os.environ) -> str:
    """Return the server program. Raises `ServerMissing`."""
    program = shutil.which("etcd", path=environ.get("PATH", ""))
    if program is None:
        raise ServerMissing("etcd is not on PATH: install etcd (Debian: etcd-server)")
    return program
