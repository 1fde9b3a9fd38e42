"""An OpenID Connect provider with one endpoint: client id and secret in, signed tokens out, over TLS on this machine."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from libs.local.ports import LOOPBACK


@dataclass(slots=True)
class Issuer:
    """Signs tokens for `clients`, which have secrets; `scopes` is what they asked for, in order."""

    audience: str
    clients: Mapping[str, str]
    scopes: list[str] = field(default_factory=list)
    lifetime_seconds: int = 300
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048))

    def write_keys(self, file: Path) -> str:
        """Write the public key where a broker reads it; return the URL of the file."""
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        file.write_text(json.dumps({"keys": [{**public, "kid": "1", "use": "sig", "alg": "RS256"}]}))
        return file.as_uri()

    def answer(self, authorization: str, body: str) -> tuple[int, Mapping[str, Any]]:
        """Return status and content for a request for a token."""
        login = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        client, _, secret = (unquote(part) for part in login.partition(":"))
        self.scopes += parse_qs(body).get("scope", [])
        if self.clients.get(client) != secret:
            return 401, {"error": "invalid_client", "error_description": "no client has this id and secret"}
        now = int(time.time())
        claims = {"sub": client, "aud": self.audience, "iat": now, "exp": now + self.lifetime_seconds, "scope": "kafka"}
        token = jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": "1"})
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime_seconds}


@contextmanager
def serving_tokens(issuer: Issuer, certificate: Path) -> Iterator[str]:
    """Answer requests for tokens with `issuer`, under `certificate` (with its key), and yield the URL."""
    server = ThreadingHTTPServer((LOOPBACK, 0), partial(_Handler, issuer))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://{LOOPBACK}:{server.server_port}/token"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, issuer: Issuer, *arguments: Any) -> None:
        self._issuer = issuer
        super().__init__(*arguments)

    def do_POST(self) -> None:
        """Hand out a token."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        status, content = self._issuer.answer(self.headers.get("Authorization", ""), body)
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
