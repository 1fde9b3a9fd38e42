"""Key Vault on this machine, as far as secrets are read, with the faults that the real one cannot be made to show.

Microsoft's own client accepts it (tests/integration/test_key_vault_client.py). Whoever shows no token gets a challenge that
says where tokens come from; tokens are verified, for signature, audience and tenant.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from tests.fakes.azure_front import WebReply, WebRequest
from tests.fakes.entra_server import TENANT, EntraWorld

SUFFIXES = {"vault.azure.net": "login.microsoftonline.com", "vault.usgovcloudapi.net": "login.microsoftonline.us"}
_VERSIONS = re.compile(r"7\.[0-6]|20\d\d-\d\d-\d\d")
_ONE = re.compile(r"/secrets/([0-9a-zA-Z-]{1,127})(?:/([0-9a-f]{32}|versions)?)?")


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """One version of a secret."""

    value: str
    enabled: bool = True
    expires: int | None = None
    not_before: int | None = None


@dataclass
class VaultWorld:
    """One vault.

    Attributes:
        secrets: the versions of each secret, oldest first; the id of a version is its number, from 1, in 32 digits.
        readers: clients that may read values; None: all.
        by_policy: whether the vault has access policies instead of roles.
        admits: whether the firewall lets clients through.
        faults: used up one a request that has a token; None lets the request through.
        asked: paths of requests that had a token.
    """

    name: str
    entra: EntraWorld
    secrets: dict[str, list[StoredSecret]]
    readers: frozenset[str] | None = None
    by_policy: bool = False
    admits: bool = True
    page_size: int = 2
    faults: deque[WebReply | None] = field(default_factory=deque)
    asked: list[str] = field(default_factory=list)
    challenges: int = 0

    def answer(self, request: WebRequest) -> WebReply:
        """Answer a request."""
        suffix = request.host.partition(".")[2]
        if request.host.partition(".")[0] != self.name:
            return WebReply(404, None)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            client = self.entra.who(token, f"https://{suffix}")
        except jwt.InvalidTokenError:
            self.challenges += 1
            missing = "AKV10000: Request is missing a Bearer or PoP token."
            said = "AKV10022: Invalid audience, signature, tenant or time." if token else missing
            place = f'authorization="https://{SUFFIXES[suffix]}/{TENANT}", resource="https://{suffix}"'
            return failure(401, "Unauthorized", said, headers={"WWW-Authenticate": f"Bearer {place}"})
        self.asked.append(request.path)
        fault = self.faults.popleft() if self.faults else None
        return fault or self._refusal(request, client) or self._found(request)

    def _refusal(self, request: WebRequest, client: str) -> WebReply | None:
        if not self.admits:
            said = "Client address is not authorized and caller is not a trusted service.\r\nClient address: 192.0.2.1"
            return failure(403, "Forbidden", said, "ForbiddenByFirewall")
        if not _VERSIONS.fullmatch(request.query.get("api-version", "")):
            return failure(400, "BadParameter", "The specified version is not recognized.")
        if self.readers is None or client in self.readers:
            return None
        if self.by_policy:
            return failure(403, "Forbidden", "The user does not have secrets get permission.", "ForbiddenByPolicy")
        return failure(403, "Forbidden", f"Caller is not authorized.\r\nCaller: appid={client}", "ForbiddenByRbac")

    def _found(self, request: WebRequest) -> WebReply:
        if request.path.rstrip("/") == "/secrets":
            return self._page(request, [(name, "", versions[-1]) for name, versions in sorted(self.secrets.items())])
        found = _ONE.fullmatch(request.path)
        versions = self.secrets.get(found[1].lower()) if found else None
        if found is None or versions is None:
            return failure(404, "SecretNotFound", "A secret with this name was not found in this key vault.")
        if found[2] == "versions":
            return self._page(request, [(found[1], _version(number), one) for number, one in enumerate(versions, 1)])
        return self._one(request, found[1], versions, found[2])

    def _one(self, request: WebRequest, name: str, versions: list[StoredSecret], version: str | None) -> WebReply:
        number = int(version) if version else len(versions)
        if not 1 <= number <= len(versions):
            return failure(404, "SecretNotFound", "A secret with this version was not found in this key vault.")
        secret = versions[number - 1]
        if not secret.enabled:
            return failure(403, "Forbidden", "Operation get is not allowed on a disabled secret.", "SecretDisabled")
        return WebReply(200, {"value": secret.value, **self._about(request, name, _version(number), secret)})

    def _page(self, request: WebRequest, items: list[tuple[str, str, StoredSecret]]) -> WebReply:
        begin = int(request.query.get("$skiptoken", "0"))
        end = begin + min(self.page_size, int(request.query.get("maxresults", "25")))
        value = [self._about(request, *item) for item in items[begin:end]]
        link = f"https://{request.host}:443{request.path}?api-version={request.query['api-version']}&$skiptoken={end}"
        return WebReply(200, {"value": value, "nextLink": link if end < len(items) else None})

    def _about(self, request: WebRequest, name: str, version: str, secret: StoredSecret) -> dict[str, Any]:
        times = {"exp": secret.expires, "nbf": secret.not_before}
        attributes: Mapping[str, Any] = {
            "enabled": secret.enabled,
            "created": 1_767_225_600,
            "updated": 1_767_225_600,
            "recoveryLevel": "Recoverable+Purgeable",
            "recoverableDays": 90,
            **{name: value for name, value in times.items() if value is not None},
        }
        place = f"https://{request.host}/secrets/{name}" + (f"/{version}" if version else "")
        return {"id": place, "attributes": attributes, "tags": {}}


def failure(
    status: int, code: str, message: str, inner: str | None = None, headers: Mapping[str, str] | None = None
) -> WebReply:
    """Return a refusal as Key Vault words it."""
    more = {"innererror": {"code": inner}} if inner else {}
    return WebReply(status, {"error": {"code": code, "message": message, **more}}, headers or {})


def throttled(seconds: int = 0) -> WebReply:
    """Return a refusal that asks for a pause."""
    said = "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached"
    return failure(429, "Throttled", said, headers={"Retry-After": str(seconds)})


def _version(number: int) -> str:
    return f"{number:032}"
