"""Sign in to Azure as an identity: managed, workload, or a service principal. Each service of Azure has its own scope."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from libs.common.azure.sign_in_problems import sign_in_problem
from libs.common.errors import BlobtideError

_REFRESH_SECONDS_BEFORE_EXPIRY: Final = 300
_SECONDS_BETWEEN_REFRESHES: Final = 30  # between failed attempts while the token is still valid: an attempt may take seconds


# It warns of what `NoToken` says, in several lines, past our log and its redaction.
logging.getLogger("azure.identity").setLevel(logging.ERROR)


class NoToken(BlobtideError):
    """No token can be obtained at the moment."""


class Identity:
    """The tokens of an identity for one scope, such as ``https://storage.azure.com/.default``. Thread-safe.

    A token is renewed shortly before it expires. If that fails, it is used until it expires.
    """

    def __init__(self, credential: Any, scope: str, clock: Callable[[], float] = time.time) -> None:
        self._credential = credential
        self._scope = scope
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Any = None
        self._renew_at = 0.0

    def token(self) -> str:
        """Return a valid token. Raises `NoToken`."""
        with self._lock:
            now = self._clock()
            if now >= self._renew_at or now >= self._token.expires_on:
                self._renew(now)
            token: str = self._token.token
            return token

    def renewed(self, refused: str, claims: str | None = None) -> str | None:
        """Return another token than the one that a service refused; None if there is none.

        `claims` is what the service demands of it, as its challenge says; otherwise azure-identity may have no other one.

        Raises:
            NoToken: if no token can be obtained.
        """
        with self._lock:
            if self._token is None or self._token.token == refused:
                self._token = self._fetch(claims)
                self._renew_at = self._token.expires_on - _REFRESH_SECONDS_BEFORE_EXPIRY
            token: str = self._token.token
            return token if token != refused else None

    def _renew(self, now: float) -> None:
        try:
            self._token = self._fetch()
        except NoToken:
            if self._token is None or now >= self._token.expires_on:
                raise
            self._renew_at = now + _SECONDS_BETWEEN_REFRESHES
        else:
            self._renew_at = self._token.expires_on - _REFRESH_SECONDS_BEFORE_EXPIRY

    def _fetch(self, claims: str | None = None) -> Any:
        from azure.core.exceptions import AzureError

        try:
            options = {"claims": claims} if claims else {}
            return self._credential.get_token(self._scope, **options)
        # After a first success, the library passes errors on: a token file that is being replaced, an invalid response.
        except (AzureError, OSError, ValueError) as error:
            reason = sign_in_problem(str(error))
            raise NoToken(f"no token from Azure identity (managed, workload, service principal): {reason}") from error


@cache
def default_credential(client_id: str | None, authority: str | None = None) -> Any:
    """Return the process's only credential for `client_id`, without the slow and surprising sources meant for developers.

    `authority` is the host that hands out tokens.
    """
    from azure.identity import DefaultAzureCredential

    given = {"managed_identity_client_id": client_id, "authority": authority}
    options: dict[str, Any] = {name: value for name, value in given.items() if value}
    return DefaultAzureCredential(
        exclude_cli_credential=True,
        exclude_developer_cli_credential=True,
        exclude_powershell_credential=True,
        exclude_shared_token_cache_credential=True,
        exclude_visual_studio_code_credential=True,
        exclude_broker_credential=True,
        **options,
    )
