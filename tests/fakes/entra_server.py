"""Microsoft Entra ID as far as applications sign in to it: tokens for secrets, certificates and federated tokens.

Assertions are verified as Entra does: signature, audience, issuer, subject, times, and that none comes twice. Tokens are
signed, so that whoever gets one can verify it. It also hands out tokens as the endpoint for managed identities in App Service
does.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.fakes.azure_front import WebReply, WebRequest

TENANT = "22222222-2222-2222-2222-222222222222"
IDENTITY_HEADER = "of-this-process"
AUTHORITIES = ("login.microsoftonline.com", "login.microsoftonline.us", "login.chinacloudapi.cn")
_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True, slots=True)
class RegisteredApp:
    """An application: the ways in which it may sign in."""

    secret: str = ""
    certificate: x509.Certificate | None = None
    subject: str = ""  # of federated tokens
    secret_has_expired: bool = False


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token that was handed out: to whom, for what, after which proof, and by which host."""

    client: str
    scope: str
    proof: str
    host: str


@cache
def _key_of(owner: str) -> rsa.RSAPrivateKey:
    """Return the key of somebody, which is the same in all tests, because making one takes time."""
    del owner
    return rsa.generate_private_key(65537, 2048)


@dataclass
class EntraWorld:
    """One tenant.

    Attributes:
        issuer: who makes federated tokens, and `issuer_key` with what.
        generation: part of every token; those of another one are no longer valid.
    """

    apps: Mapping[str, RegisteredApp]
    issuer: str = "https://cluster.example/"
    issuer_key: rsa.RSAPrivateKey = field(default_factory=partial(_key_of, "issuer"))
    key: rsa.RSAPrivateKey = field(default_factory=partial(_key_of, "tenant"))
    issued: list[IssuedToken] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    generation: int = 1

    def answer(self, request: WebRequest) -> WebReply:
        """Answer a request to an authority."""
        tenant = request.path.split("/")[1]
        if request.path == "/common/discovery/instance":
            metadata = [{"preferred_network": request.host, "preferred_cache": request.host, "aliases": [request.host]}]
            return WebReply(200, {"tenant_discovery_endpoint": "", "metadata": metadata})
        if tenant != TENANT:
            return _refused(400, "invalid_tenant", f"AADSTS90002: Tenant '{tenant}' not found.")
        if request.path.endswith("/.well-known/openid-configuration"):
            base = f"https://{request.host}/{tenant}"
            endpoints = {"authorization_endpoint": f"{base}/oauth2/v2.0/authorize", "issuer": f"{base}/v2.0"}
            return WebReply(200, {**endpoints, "token_endpoint": f"{base}/oauth2/v2.0/token"})
        return self._token(request, request.form)

    def managed_identity(self, request: WebRequest) -> WebReply:
        """Answer a request to the endpoint for managed identities."""
        if request.headers.get("x-identity-header") != IDENTITY_HEADER:
            return WebReply(401, {"statusCode": 401, "message": "no managed identity"})
        client = request.query.get("client_id", "system-assigned")
        self.issued.append(IssuedToken(client, request.query["resource"], "machine", ""))
        token = self._signed(client, request.query["resource"])
        expires = str(int(time.time()) + 3_600)
        return WebReply(200, {"access_token": token, "expires_on": expires, "resource": "", "token_type": "Bearer"})

    def federated_token(self, subject: str) -> str:
        """Return a token as a cluster gives it to a pod."""
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": subject, "aud": "api://AzureADTokenExchange", "iat": now, "exp": now + 3_600}
        return jwt.encode(claims, self.issuer_key, algorithm="RS256")

    def who(self, token: str, audience: str) -> str:
        """Return the client that has this token. Raises `jwt.InvalidTokenError`."""
        claims: dict[str, Any] = jwt.decode(token, self.key.public_key(), algorithms=["RS256"], audience=audience)
        if claims["tid"] != TENANT or claims["generation"] != self.generation:
            raise jwt.InvalidTokenError("of another tenant or time")
        return str(claims["appid"])

    def _token(self, request: WebRequest, form: Mapping[str, str]) -> WebReply:
        client = form.get("client_id", "")
        app = self.apps.get(client)
        if app is None:
            return _refused(400, "unauthorized_client", f"AADSTS700016: Application with identifier '{client}' was not found.")
        proof = self._proof(client, app, form, f"https://{request.host}{request.path}")
        if isinstance(proof, WebReply):
            return proof
        self.issued.append(IssuedToken(client, form["scope"], proof, request.host))
        token = self._signed(client, form["scope"].removesuffix("/.default"))
        return WebReply(200, {"token_type": "Bearer", "expires_in": 3_599, "access_token": token})

    def _proof(self, client: str, app: RegisteredApp, form: Mapping[str, str], endpoint: str) -> str | WebReply:
        """Return what proved who the client is, or the refusal."""
        try:
            if "client_secret" in form:
                _verify_secret(app, form["client_secret"])
                return "secret"
            assertion = _assertion(form)
            if app.subject:
                self._verify_federated(assertion, app.subject)
                return "federated"
            self._verify_own(assertion, client, app.certificate, endpoint)
        except jwt.InvalidTokenError as error:
            code = "AADSTS70021: No federated identity matches" if app.subject else "AADSTS700027: Client assertion failed"
            return _refused(401, "invalid_client", str(error) if "AADSTS" in str(error) else f"{code} ({error}).")
        return "certificate"

    def _verify_federated(self, assertion: str, subject: str) -> None:
        public = self.issuer_key.public_key()
        claims = jwt.decode(assertion, public, algorithms=["RS256"], audience="api://AzureADTokenExchange", issuer=self.issuer)
        if claims["sub"] != subject:
            raise jwt.InvalidTokenError("subject")

    def _verify_own(self, assertion: str, client: str, certificate: x509.Certificate | None, endpoint: str) -> None:
        if certificate is None:
            raise jwt.InvalidTokenError("no certificate")
        header = jwt.get_unverified_header(assertion)
        known = {_thumbprint(certificate, hashes.SHA1()), _thumbprint(certificate, hashes.SHA256())}  # noqa: S303 - its name
        if known.isdisjoint(str(header.get(name, "")).rstrip("=") for name in ("x5t", "x5t#S256")):
            raise jwt.InvalidTokenError("thumbprint")
        public: Any = certificate.public_key()
        claims = jwt.decode(assertion, public, algorithms=["RS256", "PS256"], audience=endpoint, issuer=client)
        if claims["sub"] != client or claims["jti"] in self.seen:
            raise jwt.InvalidTokenError("subject or repetition")
        self.seen.add(claims["jti"])

    def _signed(self, client: str, audience: str) -> str:
        now = int(time.time())
        claims = {"aud": audience, "appid": client, "tid": TENANT, "iat": now, "exp": now + 3_600, "jti": uuid.uuid4().hex}
        return jwt.encode({**claims, "generation": self.generation}, self.key, algorithm="RS256")


def write_certificate(file: Path, password: str | None = None) -> x509.Certificate:
    """Write a certificate of an application and its key, encrypted if there is a password, as PEM; return the certificate."""
    key = _key_of("application")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "blobtide")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    encryption = serialization.BestAvailableEncryption(password.encode()) if password else plain
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    file.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    return certificate


def _assertion(form: Mapping[str, str]) -> str:
    if form.get("client_assertion_type") != _JWT_BEARER:
        raise jwt.InvalidTokenError("AADSTS7000218: The request must contain client_assertion or client_secret.")
    return form["client_assertion"]


def _verify_secret(app: RegisteredApp, secret: str) -> None:
    if app.secret_has_expired:
        raise jwt.InvalidTokenError("AADSTS7000222: The provided client secret keys are expired.")
    if secret != app.secret:
        raise jwt.InvalidTokenError("AADSTS7000215: Invalid client secret provided.")


def _thumbprint(certificate: x509.Certificate, algorithm: hashes.HashAlgorithm) -> str:
    return urlsafe_b64encode(certificate.fingerprint(algorithm)).rstrip(b"=").decode()


def _refused(status: int, code: str, text: str) -> WebReply:
    exchange = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    said = f"{text} Trace ID: {exchange} Correlation ID: {exchange} Timestamp: 2026-05-01 12:00:00Z"
    return WebReply(status, {"error": code, "error_description": said})
