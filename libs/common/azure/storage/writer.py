"""Write blobs as Azure's log services do: staged blocks and block lists, append blobs, whole blobs. For demo data and tests.

Nothing in the pipeline writes to storage. Every call is retried by the policy in `retry` and then fails with an error from
`api`. All calls except `append` can be repeated without duplicating anything.
"""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode

from libs.common.azure.credentials import credential_of
from libs.common.azure.endpoint import Endpoint
from libs.common.azure.retry import Retrier, RetryPolicy, Transient
from libs.common.azure.storage.api import StorageUnavailable
from libs.common.azure.storage.credentials import Authoriser, SharedAccessSignature, SharedKey, resolve
from libs.common.azure.storage.failures import failure
from libs.common.errors import ConfigError
from libs.common.security.redaction import excerpt
from libs.common.settings.storage import StorageAccount

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, BlobServiceClient

T = TypeVar("T")

# We retry ourselves: the SDK's waits cannot be cut short, and it does not retry 429. A whole blob is one request.
_OPTIONS: Final[dict[str, Any]] = {
    "retry_total": 0,
    "connection_timeout": 5,
    "read_timeout": 20,
    "max_single_put_size": 256 * 1024 * 1024,
}
_ALREADY_THERE: Final = "ContainerAlreadyExists"
_NOT_AT_END: Final = "AppendPositionConditionNotMet"
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Target:
    """A blob of the account, which may or may not exist."""

    container: str
    name: str


class BlobWriter:
    """Writes to one account. Threads may share it; connections open when first used."""

    def __init__(self, account: StorageAccount, alias: str, policy: RetryPolicy | None = None) -> None:
        self._alias = alias
        self._service = _service(account, alias)
        self._closing = threading.Event()
        self._retrier = Retrier(policy or RetryPolicy(), self._closing.wait, StorageUnavailable)

    def create_container(self, container: str) -> None:
        """Create a container unless it exists."""
        from azure.core.exceptions import ResourceExistsError

        def create() -> None:
            try:
                self._service.create_container(container)
            except ResourceExistsError as error:
                if _headers(error).get("x-ms-error-code") != _ALREADY_THERE:  # one that is being deleted has another code
                    raise

        self._call(f"/{container}", create)

    def block_ids(self, target: Target) -> tuple[str, ...]:
        """Return the plain ids of the committed blocks; none if the blob does not exist."""
        from azure.core.exceptions import ResourceNotFoundError

        def read() -> tuple[str, ...]:
            try:
                committed, _ = self._blob(target).get_block_list("committed")
            except ResourceNotFoundError:
                return ()
            return tuple(block.id for block in committed)

        return self._call(_path(target), read)

    def stage_block(self, target: Target, block_id: str, data: bytes) -> None:
        """Upload one block, which becomes part of the blob only when `commit_blocks` names it."""
        self._call(_path(target), lambda: self._blob(target).stage_block(block_id, data))

    def commit_blocks(self, target: Target, block_ids: Sequence[str]) -> None:
        """Make the blob consist of these staged or committed blocks, in this order."""
        from azure.storage.blob import BlobBlock, ContentSettings

        blocks = [BlobBlock(block_id) for block_id in block_ids]
        settings = ContentSettings(content_type=_JSON)
        self._call(_path(target), lambda: self._blob(target).commit_block_list(blocks, content_settings=settings))

    def put(self, target: Target, data: bytes, content_type: str = _JSON) -> None:
        """Write a whole block blob in one request, so that it has no block list; replaces an existing blob."""
        from azure.storage.blob import ContentSettings

        settings = ContentSettings(content_type=content_type)
        blob = self._blob(target)
        self._call(_path(target), lambda: blob.upload_blob(data, overwrite=True, content_settings=settings))

    def create_append_blob(self, target: Target) -> None:
        """Create an empty append blob; replaces an existing blob."""
        self._call(_path(target), lambda: self._blob(target).create_append_blob())

    def append(self, target: Target, data: bytes) -> None:
        """Append to an append blob. A retry after a lost response appends twice: use it only where a test would notice."""
        self._call(_path(target), lambda: self._blob(target).append_block(data))

    def append_at(self, target: Target, offset: int, data: bytes) -> None:
        """Append `data` at `offset`, the size that the blob must have; creates it at 0. A retry appends nothing twice.

        Raises:
            BlobChanged: if the blob has another size.
        """
        from azure.core import MatchConditions
        from azure.core.exceptions import HttpResponseError, ResourceExistsError

        blob = self._blob(target)

        def append() -> None:
            if not offset:
                with contextlib.suppress(ResourceExistsError):
                    blob.create_append_blob(match_condition=MatchConditions.IfMissing)
            try:
                blob.append_block(data, appendpos_condition=offset)
            except HttpResponseError as error:
                if _headers(error).get("x-ms-error-code") != _NOT_AT_END or _size(blob) != offset + len(data):
                    raise

        self._call(_path(target), append)

    def size(self, target: Target) -> int:
        """Return the size of a blob in bytes; 0 if it does not exist."""
        return self._call(_path(target), lambda: _size(self._blob(target)))

    def set_metadata(self, target: Target, metadata: Mapping[str, str]) -> None:
        """Change only the metadata: the blob gets a new ETag and keeps its content."""
        self._call(_path(target), lambda: self._blob(target).set_blob_metadata(dict(metadata)))

    def delete(self, target: Target) -> None:
        """Delete a blob."""
        self._call(_path(target), lambda: self._blob(target).delete_blob())

    def close(self) -> None:
        """End waits between retries and close connections."""
        self._closing.set()
        self._service.close()

    def _blob(self, target: Target) -> BlobClient:
        return self._service.get_blob_client(target.container, target.name)

    def _call(self, path: str, operation: Callable[[], T]) -> T:
        return self._retrier.call(lambda: self._attempt(path, operation))

    def _attempt(self, path: str, operation: Callable[[], T]) -> T:
        from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError, ServiceResponseError

        try:
            return operation()
        except HttpResponseError as error:
            raise failure(self._alias, path, error.status_code or 0, _headers(error)) from error
        except (ServiceRequestError, ServiceResponseError) as error:
            raise Transient(f"{self._alias}: {self._service.primary_hostname} does not respond: {_short(error)}") from error
        except AzureError as error:
            raise ConfigError(f"{self._alias}: cannot sign in to storage: {_short(error)}") from error


def _service(account: StorageAccount, alias: str) -> BlobServiceClient:
    login = resolve(account, alias)
    try:
        from azure.storage.blob import BlobServiceClient
    except ModuleNotFoundError as error:
        raise ConfigError(f"writing blobs needs the extra 'azure' ({error.name} is missing): blobtide[azure]") from error
    options = {**_OPTIONS, "use_env_settings": not login.endpoint.is_loopback}  # that is, the proxy from the environment
    return BlobServiceClient(_url(login.endpoint), _credential(login.authoriser, account), **options)


def _url(endpoint: Endpoint) -> str:
    host = f"{endpoint.host}:{endpoint.port}" if endpoint.port else endpoint.host
    return f"{endpoint.scheme}://{host}{endpoint.path}"


def _credential(authoriser: Authoriser, account: StorageAccount) -> Any:
    """Return the SDK's form of an authoriser."""
    from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential

    if isinstance(authoriser, SharedKey):
        return AzureNamedKeyCredential(authoriser.account, base64.b64encode(authoriser.key).decode())
    if isinstance(authoriser, SharedAccessSignature):
        return AzureSasCredential(urlencode(authoriser.fields))
    return credential_of(account.identity)


def _headers(error: Any) -> Mapping[str, str]:
    """Return the headers of the response that caused `error`, an `HttpResponseError`."""
    headers: Mapping[str, str] = error.response.headers if error.response is not None else {}
    return headers


def _size(blob: BlobClient) -> int:
    from azure.core.exceptions import ResourceNotFoundError

    try:
        return int(blob.get_blob_properties().size)
    except ResourceNotFoundError:
        return 0


def _path(target: Target) -> str:
    return f"/{target.container}/{target.name}"


def _short(error: Exception) -> str:
    """Return the first line of the SDK's message, without object addresses."""
    return excerpt(str(error).partition("\n")[0].rpartition("): ")[2], 200)
