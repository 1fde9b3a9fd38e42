"""Where a storage account is and how to sign in to it: turns settings into an endpoint and an authoriser of requests.

Secrets are given as values or in files. Files are read again if the service refuses a secret, so that keys can be rotated while
a process is running. An authoriser belongs to one endpoint: nothing in a message can send a secret to another host.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr

from libs.common.azure.clouds import CLOUD_HOSTS
from libs.common.azure.credentials import credential_of
from libs.common.azure.endpoint import Endpoint
from libs.common.azure.identity import Identity, NoToken
from libs.common.azure.storage.api import StorageUnavailable
from libs.common.errors import ConfigError
from libs.common.security.redaction import remember
from libs.common.security.transport import guard_credentials, is_plain
from libs.common.settings.secrets import refuse_unread
from libs.common.settings.storage import StorageAccount
from libs.common.settings.text_file import read_text_file

_TOKEN_SCOPE = "https://storage.azure.com/.default"  # noqa: S105 - the name of a permission, not a secret
# Published by Microsoft for the storage emulator; it gives access to nothing else.
_EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_EMULATOR = f"AccountName=devstoreaccount1;AccountKey={_EMULATOR_KEY};BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1"
_BLOB_LABEL = ".blob."
_QUEUE_EXAMPLE = "https://NAME.queue.core.windows.net"


MOST_BYTES: Final = 16_777_216
"""A listing page has at most 5,000 names of 1,024 characters, and a block list 50,000 blocks: about 12 MB of XML."""


@dataclass(slots=True)
class StorageRequest:
    """One request. `path` is percent-encoded and complete; query values are plain.

    `most_bytes` is the length of the longest response that is accepted. A `body` is XML.
    """

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    most_bytes: int = MOST_BYTES
    body: bytes | None = None


class Authoriser(Protocol):
    """Signs requests."""

    def authorise(self, request: StorageRequest) -> None:
        """Add proof of identity to `request`; called again for every attempt."""


@dataclass(frozen=True, slots=True)
class SharedKey:
    """Account key: every request is signed (Shared Key for blobs and queues, version 2015-02-21 and later)."""

    account: str
    key: bytes = field(repr=False)

    def authorise(self, request: StorageRequest) -> None:
        """Sign method, conditional headers, x-ms headers, path and query."""
        lower = {name.lower(): value for name, value in request.headers.items()}
        plain = "\n".join(lower.get(name, "") for name in _SIGNED_HEADERS)
        ms = "".join(f"{name}:{lower[name]}\n" for name in sorted(lower) if name.startswith("x-ms-"))
        query = "".join(f"\n{name}:{value}" for name, value in sorted(request.query.items()))
        text = f"{request.method}\n{plain}\n{ms}/{self.account}{request.path}{query}"
        digest = hmac.digest(self.key, text.encode(), hashlib.sha256)
        request.headers["Authorization"] = f"SharedKey {self.account}:{base64.b64encode(digest).decode()}"


_SIGNED_HEADERS = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


@dataclass(frozen=True, slots=True)
class SharedAccessSignature:
    """A SAS: its fields are part of every query."""

    fields: tuple[tuple[str, str], ...] = field(repr=False)

    def authorise(self, request: StorageRequest) -> None:
        """Add the signature's fields."""
        request.query.update(self.fields)


class TokenIdentity:
    """Signs requests with the tokens of an identity."""

    def __init__(self, credential: Any, clock: Callable[[], float] = time.time) -> None:
        self._identity = Identity(credential, _TOKEN_SCOPE, clock)

    def authorise(self, request: StorageRequest) -> None:
        """Add the bearer token. Raises `StorageUnavailable` if no token can be obtained."""
        try:
            request.headers["Authorization"] = f"Bearer {self._identity.token()}"
        except NoToken as error:
            raise StorageUnavailable(str(error)) from error


@dataclass(frozen=True, slots=True)
class StorageLogin:
    """An endpoint and how to sign in to it."""

    endpoint: Endpoint
    authoriser: Authoriser

    @property
    def account(self) -> str | None:
        """Name of the account; None if neither key nor address reveals it."""
        if isinstance(self.authoriser, SharedKey):
            return self.authoriser.account
        return _account_of(self.endpoint) if _BLOB_LABEL in self.endpoint.host else None


def resolve(account: StorageAccount, alias: str) -> StorageLogin:
    """Return the endpoint and authoriser of the environment `alias`. Reads secret files; sends nothing.

    Raises:
        ConfigError: if a secret or address is missing or malformed, or the secret would be sent unencrypted without permission.
            The message names the environment and the setting, and shows no secret.
    """
    return resolve_for(account, f"storage of environment {alias}")


def resolve_for(account: StorageAccount, what: str) -> StorageLogin:
    """Return the endpoint and authoriser of an account that errors call `what`; works like `resolve`."""
    try:
        login = _resolve(account)
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"{what}: {error}") from error
    return _guarded(login, what, account)


def resolve_queues(account: StorageAccount, alias: str, service_url: str | None) -> StorageLogin:
    """Return the endpoint and authoriser of the queue service; works like `resolve`."""
    login = resolve(account, alias)
    try:
        endpoint = _queue_endpoint(account, login.endpoint, service_url)
    except ValueError as error:
        raise ConfigError(f"events of environment {alias}: {error}") from error
    if isinstance(login.authoriser, TokenIdentity) and endpoint.scheme != "https":
        raise ConfigError(f"events of environment {alias}: signing in by identity requires https")
    return _guarded(StorageLogin(endpoint, login.authoriser), f"queue of environment {alias}", account)


def _guarded(login: StorageLogin, what: str, account: StorageAccount) -> StorageLogin:
    if is_plain(login.endpoint.origin, "https") and not _is_public(login.authoriser):
        guard_credentials(what, [login.endpoint.origin], account)
    return login


def _queue_endpoint(account: StorageAccount, blobs: Endpoint, service_url: str | None) -> Endpoint:
    if service_url:
        return _endpoint("service_url", service_url, _QUEUE_EXAMPLE)
    text = _secret("connection_string", account.connection_string, account.connection_string_file)
    if text is not None and (url := _parts(text).get("queueendpoint")):
        return _endpoint("connection_string's QueueEndpoint", url, _QUEUE_EXAMPLE)
    if _BLOB_LABEL in blobs.host:
        return replace(blobs, host=blobs.host.replace(_BLOB_LABEL, ".queue.", 1))
    if blobs.path and blobs.port:  # an emulator serves queues on the next port
        return replace(blobs, port=blobs.port + 1)
    raise ValueError(
        f"the URL of the queue service cannot be derived from that of the blobs; set service_url, {_QUEUE_EXAMPLE}"
    )


def _is_public(authoriser: Authoriser) -> bool:
    """Return whether these are the emulator's published credentials."""
    return isinstance(authoriser, SharedKey) and authoriser.key == base64.b64decode(_EMULATOR_KEY)


def _resolve(account: StorageAccount) -> StorageLogin:
    text = _secret("connection_string", account.connection_string, account.connection_string_file)
    if text is not None:
        return _from_connection_string(text, account.account_url)
    endpoint = _endpoint("account_url", _url_of(account))
    key = _secret("account_key", account.account_key, account.account_key_file)
    sas = _secret("sas_token", account.sas_token, account.sas_token_file)
    if key is not None:
        return StorageLogin(endpoint, SharedKey(account.account_name or _account_of(endpoint), _decode_key("account_key", key)))
    if sas is not None:
        return StorageLogin(endpoint, _sas("sas_token", sas))
    if endpoint.scheme != "https":
        raise ValueError("signing in by identity requires https; give account_key or sas_token for an emulator")
    return StorageLogin(endpoint, TokenIdentity(credential_of(account.identity)))


def _secret(name: str, value: SecretStr | None, file: Path | None) -> str | None:
    if value is not None:
        text = value.get_secret_value().strip()
        refuse_unread(name, text)
    elif file is not None:
        text = read_text_file(file, f"{name}_file").strip()
    else:
        return None
    if not text:
        raise ValueError(f"{name} is empty")
    if text != _EMULATOR_KEY:
        remember(text)
    return text


def _from_connection_string(text: str, account_url: str | None) -> StorageLogin:
    parts = _parts(text)
    if parts.get("usedevelopmentstorage", "").lower() == "true":
        return _from_connection_string(_EMULATOR, account_url)
    name = parts.get("accountname", "")
    suffix = parts.get("endpointsuffix") or "core.windows.net"
    url = account_url or parts.get("blobendpoint")
    if not url and name:
        url = f"{parts.get('defaultendpointsprotocol') or 'https'}://{name}.blob.{suffix}"
    if not url:
        raise ValueError("connection_string has neither AccountName nor BlobEndpoint; copy all of it from the Azure portal")
    endpoint = _endpoint("connection_string's BlobEndpoint", url)
    if key := parts.get("accountkey"):
        return StorageLogin(
            endpoint, SharedKey(name or _account_of(endpoint), _decode_key("connection_string's AccountKey", key))
        )
    if sas := parts.get("sharedaccesssignature"):
        return StorageLogin(endpoint, _sas("connection_string's SharedAccessSignature", sas))
    raise ValueError("connection_string has neither AccountKey nor SharedAccessSignature; copy all of it from the Azure portal")


def _parts(connection_string: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in connection_string.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _url_of(account: StorageAccount) -> str:
    return account.account_url or f"https://{account.account_name}.blob.{_suffix_of(account)}"


def _suffix_of(account: StorageAccount) -> str:
    return account.dns_suffix or CLOUD_HOSTS[account.identity.cloud].storage


def _endpoint(setting: str, url: str, example: str = "https://NAME.blob.core.windows.net") -> Endpoint:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{setting} is not a URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValueError(f"{setting} is not a URL such as {example}")
    if parts.query or parts.fragment:
        raise ValueError(f"{setting} must end after the host; give the part after '?' as sas_token")
    return Endpoint(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))


def _account_of(endpoint: Endpoint) -> str:
    """Return the account's name: the first path segment of an emulator's URL, otherwise the first label of the host."""
    name = endpoint.path.strip("/") or endpoint.host.partition(".")[0]
    return name.removesuffix("-secondary")


def _decode_key(setting: str, key: str) -> bytes:
    if key != _EMULATOR_KEY:
        remember(key)
    try:
        return base64.b64decode(key, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{setting} is not an account key (base64); copy it again from the Azure portal") from error


def _sas(setting: str, token: str) -> SharedAccessSignature:
    fields = tuple(parse_qsl(token.lstrip("?"), keep_blank_values=True))
    if "sig" not in dict(fields):
        raise ValueError(f"{setting} has no signature (sig=...); copy the whole token")
    remember(dict(fields)["sig"])
    return SharedAccessSignature(fields)
