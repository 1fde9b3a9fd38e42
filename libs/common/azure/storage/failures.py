"""Translate Azure's failure responses: the only place where status and error codes become `storage.api` errors."""

from __future__ import annotations

from collections.abc import Mapping

from libs.common.azure.retry import Transient
from libs.common.azure.storage.api import (
    BlobChanged,
    BlobGone,
    BlobUnreadable,
    MessageGone,
    StorageError,
    StorageRefused,
    StorageUnavailable,
)
from libs.common.http.retry_after import retry_after_seconds

_NOT_FOUND = 404
_SERVER_ERRORS = 500
_BLOB_NOT_FOUND = "BlobNotFound"
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_RETRIED_CODES = frozenset({"ServerBusy", "OperationTimedOut", "InternalError"})
_LONGEST_RETRY_AFTER = 3600.0


class WrongBlobType(StorageError):
    """This type of blob does not support the operation."""


class Refused(StorageRefused):
    """401 or 403: the secret is not accepted, or does not permit this request."""


_BY_STATUS: dict[int, tuple[type[StorageError], str]] = {
    304: (BlobChanged, "has changed"),
    412: (BlobChanged, "has changed"),
    416: (BlobChanged, "is shorter than it was"),
}
_BY_CODE: dict[str, tuple[type[StorageError], str]] = {
    "BlobArchived": (BlobUnreadable, "is in the archive tier; rehydrate it to read it"),
    "BlobBeingRehydrated": (BlobUnreadable, "is in the archive tier, being rehydrated"),
    "BlobUsesCustomerSpecifiedEncryption": (BlobUnreadable, "is encrypted with a key known only to its writer"),
    "InvalidBlobType": (WrongBlobType, "is a different type of blob"),
}
_REFUSALS = {
    "AuthenticationFailed": "the account key, SAS or token is wrong or has expired, or this machine's clock is wrong",
    "AuthorizationFailure": "access denied; check key or SAS, its permissions (read, list), and the account's network rules",
    "AuthorizationPermissionMismatch": "access denied; grant the role Storage Blob Data Reader, or read and list in the SAS",
    "KeyBasedAuthenticationNotPermitted": "the account does not accept keys; sign in by identity",
    "AccountIsDisabled": "the account is disabled",
}
_QUEUE_ROLE = (
    "grant the role Storage Queue Data Message Processor, or read and process in the SAS; to keep messages hidden: Storage "
    "Queue Data Contributor, or update; to add messages: Storage Queue Data Message Sender, or add"
)
_MESSAGE_GONE = frozenset({"MessageNotFound", "PopReceiptMismatch"})
_OTHER_REFUSAL = "access denied; check the credentials and the account's network rules"


def failure(alias: str, path: str, status: int, headers: Mapping[str, str]) -> StorageError | Transient:
    """Return the exception for a response with `status` to a request for `path` in the environment `alias`."""
    code = headers.get("x-ms-error-code", "")
    said = f"{status} {code}".strip()
    known = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if known:
        meaning, what = known
        return meaning(f"{alias}{path[:300]} {what} ({said})")
    if status == _NOT_FOUND:
        return _missing(f"{alias}{path[:300]}", code, said, of_blob="/" in path[1:])
    if status in {401, 403}:
        return Refused(f"{alias}: {_REFUSALS.get(code, _OTHER_REFUSAL)} ({said})")
    if status in _RETRIED or code in _RETRIED_CODES:
        return Transient(
            f"{alias}: storage answered {said}", after=retry_after_seconds(headers.get("Retry-After"), _LONGEST_RETRY_AFTER)
        )
    if "Location" in headers:
        return StorageUnavailable(f"{alias}: storage sent a redirect ({said}), which is not followed; check account_url")
    kind = StorageRefused if status < _SERVER_ERRORS else StorageUnavailable
    return kind(f"{alias}{path[:300]}: storage answered {said}")


def queue_failure(alias: str, path: str, status: int, headers: Mapping[str, str]) -> StorageError | Transient:
    """Return the exception for a response with `status` to a request to the queue service for `path`."""
    code = headers.get("x-ms-error-code", "")
    said = f"{status} {code}".strip()
    queue = f"{alias}: queue {path[:100].split('/')[1]}"
    if code in _MESSAGE_GONE:
        return MessageGone(f"{queue}: the message is no longer ours ({said})")
    if status == _NOT_FOUND:
        return StorageRefused(f"{queue} does not exist; create it, or correct its name in the settings ({said})")
    if code == "AuthorizationPermissionMismatch":
        return Refused(f"{queue}: access denied; {_QUEUE_ROLE} ({said})")
    return failure(alias, path, status, headers)


def _missing(place: str, code: str, said: str, *, of_blob: bool) -> StorageError:
    """Treat a blob as gone only if storage says exactly that: a wrong address or container finds no blob either."""
    if of_blob and code != _BLOB_NOT_FOUND:
        return StorageRefused(f"{place}: not found, without a reason ({said}); check account_url")
    return BlobGone(f"{place} does not exist ({said})")
