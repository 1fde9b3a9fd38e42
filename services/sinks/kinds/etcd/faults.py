"""What an error of etcd means: whose fault it is. The texts are those of etcd's own list (`rpctypes`), the same since 3.3."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Final

import msgspec

from libs.common.errors import ConfigError, Retry
from libs.common.http.client import Answer
from libs.common.security.redaction import excerpt


class EtcdFault(Enum):
    """Whose fault an error is, or what it asks for."""

    SIGN_IN = auto()  # the token is not valid any more
    TOO_LARGE = auto()  # the request is
    NO_LEASE = auto()  # the lease has ended
    OPERATOR = auto()
    WORLD = auto()  # passes by itself, or when the cluster is looked after


@dataclass(frozen=True, slots=True)
class EtcdError:
    """An error: whose fault, a word for the metric (from a bounded set), and what to say."""

    fault: EtcdFault
    kind: str
    text: str

    def exception(self) -> Retry | ConfigError:
        """Return the exception for an error that is the operator's or the world's."""
        if self.fault is EtcdFault.OPERATOR:
            return ConfigError(f"etcd: {self.text}")
        return Retry(f"etcd: {self.text}", after=_LONGER_PAUSE if self.kind in _SLOW else _PAUSE, kind=self.kind)


_PAUSE: Final = 1.0
_LONGER_PAUSE: Final = 10.0
_SLOW: Final = frozenset({"no_space", "corrupt"})
_UNAUTHENTICATED: Final = 16
_LAST_CODE: Final = 16

# By a part of the text of the error.
_KNOWN: Final = (
    ("invalid auth token", EtcdFault.SIGN_IN, "token", "the token is not valid"),
    ("revision of auth store is old", EtcdFault.SIGN_IN, "token", "users or roles have changed"),
    ("request is too large", EtcdFault.TOO_LARGE, "too_large", "the request is too large"),
    ("message larger than max", EtcdFault.TOO_LARGE, "too_large", "the request is too large"),
    ("requested lease not found", EtcdFault.NO_LEASE, "lease", "the lease of new keys has ended"),
    (
        "permission denied",
        EtcdFault.OPERATOR,
        "denied",
        "permission denied: the user needs a role with readwrite permission for the sink's prefix",
    ),
    ("authentication failed", EtcdFault.OPERATOR, "login", "the sign-in is denied; check username and password"),
    ("user name is empty", EtcdFault.OPERATOR, "login", "it requires sign-in; set username and password (or password_file)"),
    ("authentication is not enabled", EtcdFault.OPERATOR, "login", "it has no users; remove username and password"),
    (
        "too many operations",
        EtcdFault.OPERATOR,
        "operations",
        "it takes fewer operations per transaction; set transaction_rows to its --max-txn-ops",
    ),
    (
        "database space exceeded",
        EtcdFault.WORLD,
        "no_space",
        "its database is full (alarm NOSPACE): compact, defragment and `etcdctl alarm disarm`, or raise --quota-backend-bytes",
    ),
    ("corrupt cluster", EtcdFault.WORLD, "corrupt", "the cluster has the alarm CORRUPT: one member's data differs"),
    ("too many requests", EtcdFault.WORLD, "busy", "it has too many requests"),
    ("no leader", EtcdFault.WORLD, "no_leader", "the cluster has no leader"),
    ("leader changed", EtcdFault.WORLD, "no_leader", "the cluster has a new leader"),
    ("timed out", EtcdFault.WORLD, "timeout", "the cluster did not agree in time"),
)


class _Failure(msgspec.Struct, gc=False):
    code: int = 0
    error: str = ""
    message: str = ""


_failures = msgspec.json.Decoder(_Failure)


def error_of(answer: Answer) -> EtcdError:
    """Return what a response that is not 200 means."""
    try:
        failure = _failures.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        failure = _Failure()
    said = failure.error or failure.message
    for words, fault, kind, text in _KNOWN:
        if words in said:
            return EtcdError(fault, kind, text)
    if failure.code == _UNAUTHENTICATED or answer.status == HTTPStatus.UNAUTHORIZED:
        return EtcdError(EtcdFault.SIGN_IN, "token", "the token is not valid")
    if not said:
        hint = "this is no response of etcd's JSON gateway; are hosts right, and is it etcd 3.4 or later?"
        return EtcdError(EtcdFault.WORLD, f"status_{answer.status}", f"status {answer.status}: {hint}")
    kind = f"code_{failure.code}" if 0 <= failure.code <= _LAST_CODE else "other"
    return EtcdError(EtcdFault.WORLD, kind, f"status {answer.status}: {excerpt(said, 200)}")
