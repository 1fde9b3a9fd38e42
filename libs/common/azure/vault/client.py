"""Read secrets of Key Vault over REST, signed in as an identity.

A vault is a name, checked, in the domain of the configured cloud: nothing else chooses a host, and redirects are not followed.
Values are neither logged nor quoted. An attempt that may succeed later is repeated within one deadline, as the vault asks.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from libs.common.azure.challenges import demanded_claims
from libs.common.azure.clouds import CLOUD_HOSTS
from libs.common.azure.endpoint import Endpoint
from libs.common.azure.host import AzureHost, ExchangeBroken, HostResponse, NoConnection, Outgoing
from libs.common.azure.identity import Identity, NoToken
from libs.common.azure.retry import Retrier, RetryPolicy, Transient
from libs.common.azure.vault.failures import SecretUnusable, VaultUnavailable, vault_failure
from libs.common.settings.azure import Cloud
from libs.common.settings.references import VAULT_PATTERN, SecretReference

POLICY: Final = RetryPolicy(deadline=20.0, first_wait=0.5, longest_wait=5.0)
_VERSION: Final = "7.4"
_MOST_BYTES: Final = 262_144  # a value has at most 25,000 bytes
_READ_SECONDS: Final = 10.0
_UNAUTHORISED: Final = 401
_VAULT: Final = re.compile(VAULT_PATTERN)


class _Attributes(msgspec.Struct):
    enabled: bool = True
    nbf: int | None = None
    exp: int | None = None


class _Bundle(msgspec.Struct):
    value: str
    attributes: _Attributes = msgspec.field(default_factory=_Attributes)


_bundle: Final = msgspec.json.Decoder(_Bundle)


@dataclass(frozen=True, slots=True)
class VaultPlace:
    """A cloud, as vaults in it are addressed."""

    suffix: str

    @classmethod
    def of(cls, cloud: Cloud) -> VaultPlace:
        """Return that of a cloud."""
        return cls(CLOUD_HOSTS[cloud].vaults)

    @property
    def scope(self) -> str:
        """The permission to use vaults of this cloud."""
        return f"https://{self.suffix}/.default"

    def endpoint(self, vault: str) -> Endpoint:
        """Return the address of a vault. Raises `SecretUnusable` if it is not the name of one."""
        if not _VAULT.fullmatch(vault):
            raise SecretUnusable("not the name of a key vault: 3 to 24 letters, digits and single hyphens")
        return Endpoint("https", f"{vault.lower()}.{self.suffix}", None, "")


class KeyVaults:
    """The vaults of one cloud. Thread-safe; connects when first used."""

    def __init__(
        self, place: VaultPlace, identity: Identity, policy: RetryPolicy = POLICY, now: Callable[[], float] = time.time
    ) -> None:
        self._place = place
        self._identity = identity
        self._policy = policy
        self._now = now
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._hosts: dict[str, AzureHost] = {}

    def read(self, reference: SecretReference) -> str:
        """Return the value of a secret.

        Raises:
            SecretUnusable: it is not there, may not be read, is disabled, has expired or is not valid yet.
            VaultUnavailable: the vault does not answer within the deadline, or there is no token.
        """
        host = self._host(reference.vault)
        retrier = Retrier(self._policy, self._closing.wait, VaultUnavailable)
        return self._value(reference, retrier.call(lambda: self._attempt(host, reference)))

    def close(self) -> None:
        """End waits and close idle connections."""
        self._closing.set()
        for host in self._hosts.values():
            host.close()

    def _host(self, vault: str) -> AzureHost:
        with self._lock:
            if vault not in self._hosts:
                endpoint = self._place.endpoint(vault)
                self._hosts[vault] = AzureHost(endpoint, f"key vault {vault}", "Key Vault", read_seconds=_READ_SECONDS)
            return self._hosts[vault]

    def _attempt(self, host: AzureHost, reference: SecretReference) -> HostResponse:
        try:
            token = self._identity.token()
            response = self._exchange(host, reference, token)
            if response.status == _UNAUTHORISED:
                other = self._identity.renewed(token, demanded_claims(response.headers))
                response = response if other is None else self._exchange(host, reference, other)
        except NoToken as error:
            raise VaultUnavailable(f"{reference}: {error}") from error
        if not response.is_success:
            raise vault_failure(str(reference), response)
        return response

    def _exchange(self, host: AzureHost, reference: SecretReference, token: str) -> HostResponse:
        path = f"/secrets/{reference.name}" + (f"/{reference.version}" if reference.version else "")
        headers = {"Accept": "application/json", "User-Agent": "blobtide", "Authorization": f"Bearer {token}"}
        try:
            return host.exchange(Outgoing("GET", f"{path}?api-version={_VERSION}", headers, _MOST_BYTES))
        except NoConnection as error:
            raise VaultUnavailable(
                f"{reference}: {error}; is there a vault of this name in the cloud of azure.cloud, and a way to it from here?"
            ) from error
        except ExchangeBroken as error:
            raise Transient(f"{reference}: {error}") from error

    def _value(self, reference: SecretReference, response: HostResponse) -> str:
        try:
            bundle = _bundle.decode(response.body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # Without the cause, which could quote the value.
            raise SecretUnusable(f"{reference}: what the vault answers is not a secret") from None
        valid, now = bundle.attributes, self._now()
        if not valid.enabled:
            raise SecretUnusable(f"{reference}: is disabled: enable it, or name another version")
        if valid.exp is not None and valid.exp <= now:
            raise SecretUnusable(f"{reference}: expired at {_moment(valid.exp)}: make a new version of it")
        if valid.nbf is not None and valid.nbf > now:
            raise SecretUnusable(f"{reference}: is not valid before {_moment(valid.nbf)}")
        return bundle.value


def _moment(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return "a time that is none"
