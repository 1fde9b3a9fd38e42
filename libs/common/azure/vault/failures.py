"""Translate refusals of Key Vault: why a secret cannot be had, and what to do about it."""

from __future__ import annotations

from typing import Final

import msgspec

from libs.common.azure.host import HostResponse
from libs.common.azure.retry import Transient
from libs.common.errors import ConfigError, ServerUnreachable
from libs.common.http.retry_after import retry_after_seconds
from libs.common.security.redaction import excerpt
from libs.common.security.visible import visible_line

_RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})
_NOT_FOUND: Final = 404
_UNAUTHORISED: Final = 401
_LONGEST_RETRY_AFTER: Final = 600.0
_PERMISSION: Final = "grant the identity the role Key Vault Secrets User on the vault or the secret"
_FIREWALL: Final = "the firewall of the vault does not admit this machine: add its network, or use a private endpoint"
_ADVICE: Final = {
    "SecretDisabled": "it is disabled: enable it, or name another version",
    "ForbiddenByRbac": f"{_PERMISSION}; a new assignment takes some minutes",
    "ForbiddenByPolicy": "give the identity the permission `get` for secrets in the access policies of the vault",
    "AccessDenied": _PERMISSION,
    "ForbiddenByFirewall": _FIREWALL,
    "ForbiddenByConnection": _FIREWALL,
    "SecretNotFound": "there is no such secret or version in the vault; check the name, or recover it if it was deleted",
}


class VaultUnavailable(ServerUnreachable):
    """A vault does not answer, or there is no token for it; `after` is when to try again, in seconds."""

    def __init__(self, reason: str, *, after: float = 5.0) -> None:
        super().__init__(reason)
        self.after = after


class SecretUnusable(ConfigError):
    """A secret cannot be had, however often it is asked for."""


class TokenRefused(VaultUnavailable):
    """The vault does not accept the token."""


class _Inner(msgspec.Struct):
    code: object = ""
    innererror: object = None


class _Said(msgspec.Struct):
    code: object = ""
    message: object = ""
    innererror: _Inner | None = None


class _ErrorBody(msgspec.Struct):
    error: _Said


_error_body: Final = msgspec.json.Decoder(_ErrorBody)


def vault_failure(what: str, response: HostResponse) -> SecretUnusable | TokenRefused | Transient:
    """Return the exception for a response that is no success; `what` names the secret."""
    said = _said(response)
    codes = [code for code in (said.innererror and said.innererror.code, said.code) if isinstance(code, str)]
    message = visible_line(excerpt(said.message, 200)) if isinstance(said.message, str) else ""
    shown = " ".join(str(part) for part in (response.status, *codes[:1]) if part)
    reason = f"{what}: Key Vault answers {shown}" + (f": {message}" if message else "")
    if response.status in _RETRIED:
        return Transient(reason, after=retry_after_seconds(response.headers.get("Retry-After", ""), _LONGEST_RETRY_AFTER))
    if response.status == _UNAUTHORISED:
        return TokenRefused(f"{reason}; is the vault in another tenant or cloud than azure.credential?")
    advice = next((_ADVICE[code] for code in codes if code in _ADVICE), None)
    if advice is None:
        advice = _ADVICE["SecretNotFound"] if response.status == _NOT_FOUND else _PERMISSION
    return SecretUnusable(f"{what}: Key Vault answers {shown}: {advice}")


def _said(response: HostResponse) -> _Said:
    try:
        return _error_body.decode(response.body).error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _Said()
