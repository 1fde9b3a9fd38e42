"""Hosts of Azure on this machine, under their own names: a proxy that ends TLS with a certificate for them, and answers itself.

Clients reach it as they reach Azure from behind a proxy, so that names, certificates and addresses are checked as there. A host
that is not served does not exist, as far as the proxy knows.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from libs.local.ports import LOOPBACK
from tests.secured_kafka import access_script

HOSTS = (
    "login.microsoftonline.com",
    "login.microsoftonline.us",
    "login.chinacloudapi.cn",
    "management.azure.com",
    "management.usgovcloudapi.net",
    "*.vault.azure.net",
    "*.vault.usgovcloudapi.net",
    "*.vault.azure.cn",
)


@dataclass(frozen=True, slots=True)
class WebRequest:
    """A request that arrived; names of headers are in lower case."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The body of a form."""
        return {name: values[-1] for name, values in parse_qs(self.body.decode()).items()}


@dataclass(frozen=True, slots=True)
class WebReply:
    """A response; the body is JSON, or None to close the connection without an answer."""

    status: int
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


Site = Callable[[WebRequest], WebReply]


@dataclass
class AzureFront:
    """What is served.

    Attributes:
        sites: who answers, by host or pattern of hosts; ``""`` for requests without TLS to the front itself.
        tunnels: hosts and ports that clients wanted to reach, in order.
        variables: of the environment, by which clients find the front and trust it.
        url: of the front itself.
    """

    sites: dict[str, Site] = field(default_factory=dict)
    tunnels: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    url: str = ""

    def site(self, host: str) -> Site | None:
        """Return who answers for a host."""
        return next((site for pattern, site in self.sites.items() if fnmatchcase(host, pattern)), None)


@contextmanager
def serving_front(directory: Path) -> Iterator[AzureFront]:
    """Serve until the end of the block; certificates are written into `directory`."""
    authority = access_script().Authority()
    certificate, key = authority.issue("azure", HOSTS)
    (directory / "front.pem").write_bytes(key + certificate)
    (directory / "front-ca.pem").write_bytes(authority.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "front.pem")
    front = AzureFront()
    server = ThreadingHTTPServer((LOOPBACK, 0), partial(_Handler, front, context))
    server.daemon_threads = True
    front.url = f"http://{LOOPBACK}:{server.server_port}"
    trusted = str(directory / "front-ca.pem")
    front.variables = {"HTTPS_PROXY": front.url, "SSL_CERT_FILE": trusted, "REQUESTS_CA_BUNDLE": trusted}
    thread = threading.Thread(target=partial(server.serve_forever, 0.02))
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def __init__(self, front: AzureFront, context: ssl.SSLContext, *arguments: Any) -> None:
        self._front = front
        self._context = context
        self._host = ""
        self._tunnel: ssl.SSLSocket | None = None
        super().__init__(*arguments)

    def do_CONNECT(self) -> None:
        """Open a tunnel to a host, which ends here."""
        self._front.tunnels.append(self.path)
        self._host = self.path.partition(":")[0]
        if self._front.site(self._host) is None:
            self.send_error(502, "no such host")
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        try:
            self._tunnel = self._context.wrap_socket(self.connection, server_side=True)
        except OSError:  # the client does not trust us
            self.close_connection = True
            return
        self.rfile, self.wfile = self._tunnel.makefile("rb"), self._tunnel.makefile("wb")
        self.close_connection = False

    def do_GET(self) -> None:
        """Answer a request."""
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        site = self._front.site(self._host)
        request = WebRequest(self.command, self._host, parts.path, query, headers, body)
        reply = site(request) if site is not None else WebReply(404)
        if reply.body is None:
            self.close_connection = True
            return
        data = json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    do_POST = do_GET  # noqa: N815 - the name that http.server looks for

    def finish(self) -> None:
        """Close the tunnel as well."""
        with suppress(OSError):
            super().finish()
        if self._tunnel is not None:
            self._tunnel.close()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
