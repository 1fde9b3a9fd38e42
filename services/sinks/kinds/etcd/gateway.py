"""etcd's JSON gateway: its v3 API over HTTP, with sign-in by a token that is renewed when it expires.

Why not a library: etcd3 (0.12) does not import with a current protobuf, etcd3-py has had no release since 2019, and aetcd needs
an event loop; all would bring gRPC, for four calls. The gateway is a part of every etcd since 3.4, under the path ``/v3``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec

from libs.common.errors import BlobtideError, ConfigError, Retry
from libs.common.http.client import Answer, HttpClient, Request
from services.sinks.kinds.etcd.faults import EtcdFault, error_of

_JSON: Final = {"Content-Type": "application/json"}
_OLDEST: Final = (3, 4)

_T = TypeVar("_T")


class RequestTooLarge(BlobtideError):
    """The server does not take a request of that size."""


class LeaseGone(BlobtideError):
    """The lease that keys should get has ended."""


class _Version(msgspec.Struct):
    etcdserver: str = ""


class _Signed(msgspec.Struct):
    token: str


class Gateway:
    """Calls to a cluster. Thread-safe."""

    def __init__(self, client: HttpClient, login: tuple[str, str] | None = None) -> None:
        self._client = client
        self._login = login
        self._lock = threading.Lock()
        self._token: str | None = None

    def check_version(self) -> None:
        """Check that this is an etcd with the API that is used. Raises `Retry`, `ConfigError`."""
        answer = self._client.send(Request("GET", "/version"))
        try:
            version = msgspec.json.decode(answer.body, type=_Version).etcdserver
            numbers = tuple(int(part) for part in version.split(".")[:2])
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
            numbers = ()
            version = f"something that answers {answer.status} to /version"
        if numbers < _OLDEST:
            raise ConfigError(f"hosts: this is {version or 'no etcd'}, not etcd 3.4 or later")

    def ask(self, path: str, body: bytes) -> bytes:
        """Make a call and return its response; signs in first, and again if the token has expired.

        Raises:
            Retry, ConfigError: if the cluster cannot do it now, or will not.
            RequestTooLarge, LeaseGone: if that is what is wrong.
        """
        token = self._signed_in()
        answer = self._send(path, body, token)
        if answer.status != HTTPStatus.OK and self._login is not None and error_of(answer).fault is EtcdFault.SIGN_IN:
            self._forget(token)
            answer = self._send(path, body, self._signed_in())
        if answer.status == HTTPStatus.OK:
            return answer.body
        error = error_of(answer)
        match error.fault:
            case EtcdFault.TOO_LARGE:
                raise RequestTooLarge(error.text)
            case EtcdFault.NO_LEASE:
                raise LeaseGone(error.text)
            case EtcdFault.SIGN_IN if self._login is None:
                raise ConfigError("etcd: it requires sign-in; set username and password (or password_file)")
            case _:
                raise error.exception()

    def _signed_in(self) -> str | None:
        """Return a token, or None if no user is configured. One thread signs in, and the others wait."""
        if self._login is None:
            return None
        with self._lock:
            if self._token is None:
                self._token = self._sign_in(*self._login)
            return self._token

    def _sign_in(self, user: str, password: str) -> str:
        answer = self._send("/v3/auth/authenticate", json.dumps({"name": user, "password": password}).encode(), None)
        if answer.status != HTTPStatus.OK:
            raise error_of(answer).exception()
        return decoded(answer.body, _Signed).token

    def _forget(self, token: str | None) -> None:
        with self._lock:
            if self._token == token:  # otherwise, another thread has signed in since
                self._token = None

    def _send(self, path: str, body: bytes, token: str | None) -> Answer:
        headers: Mapping[str, str] = _JSON if token is None else {**_JSON, "Authorization": token}
        return self._client.send(Request("POST", path, body, headers))


def decoded(body: bytes, kind: type[_T]) -> _T:
    """Return a response as `kind`. Raises `Retry` if it is none: then something else has answered."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Retry("etcd: the response cannot be read; does something else answer?", kind="no_answer_of_etcd") from error
