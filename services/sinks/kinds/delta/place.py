"""Where a table is: a local directory or Azure storage, with the options by which the library reaches it.

Credentials come from the same settings as those of accounts that are read. A token of an identity is obtained anew for every
use; the library gets nothing else that expires.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Final

from libs.common.errors import ConfigError
from services.sinks.kinds.delta.settings import DeltaSettings

KIND: Final = "delta"
_COPY_BYTES: Final = 4_194_304
# Of the library's own attempts: a write must end within the time in which its process counts as alive.
_PATIENCE: Final = {"timeout": "20s", "connect_timeout": "5s", "max_retries": "3", "retry_timeout": "15s"}
_BEARER: Final = "Bearer "

Options = dict[str, str]


def options_of(settings: DeltaSettings) -> Options:
    """Return the library's options for the place of the table; none for a directory. Reads secret files; sends nothing.

    Raises:
        ConfigError: if a secret or address is missing or malformed, or the secret would be sent unencrypted.
        OSError: if no token can be obtained.
    """
    if settings.account is None:
        return {}
    try:
        from libs.common.azure.storage.api import StorageUnavailable
        from libs.common.azure.storage.credentials import SharedAccessSignature, SharedKey, StorageRequest, resolve_for
    except ModuleNotFoundError as error:
        raise ConfigError(f"table: Azure storage needs the extra 'azure' ({error.name} is missing): blobtide[azure]") from error
    login = resolve_for(settings.account, "storage of the delta table")
    endpoint = login.endpoint
    options = {
        **_PATIENCE,
        "azure_storage_account_name": login.account or "",
        "azure_endpoint": f"{endpoint.origin}{endpoint.path}",
        "allow_http": str(endpoint.scheme == "http").lower(),
    }
    match login.authoriser:
        case SharedKey():
            import base64

            return {**options, "azure_storage_account_key": base64.b64encode(login.authoriser.key).decode()}
        case SharedAccessSignature():
            from urllib.parse import urlencode

            return {**options, "azure_storage_sas_key": urlencode(login.authoriser.fields)}
        case identity:
            request = StorageRequest("GET", "/")
            try:
                identity.authorise(request)
            except StorageUnavailable as error:
                raise OSError(str(error)) from error
            return {**options, "azure_storage_token": request.headers["Authorization"].removeprefix(_BEARER)}


def uri_of(settings: DeltaSettings) -> str:
    """Return the table's place as the library takes it."""
    return settings.place if settings.is_remote else str(Path(settings.place).absolute())


def upload(uri: str, options: Options, source: Path, path: str) -> None:
    """Copy a file into the table, replacing what is there; it is durable on return. Raises OSError."""
    if "://" in uri:
        _upload(uri, options, source, path)
        return
    target = Path(uri, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as read, target.open("wb") as written:
        shutil.copyfileobj(read, written, _COPY_BYTES)
        written.flush()
        os.fsync(written.fileno())
    for directory in (target.parent, Path(uri)):
        sync(directory)


def sync_log(uri: str, version: int | None = None) -> None:
    """Make a commit durable, or all of them: the library does not wait for a local disk. Raises OSError."""
    if "://" in uri:
        return
    log = Path(uri, "_delta_log")
    commits = log.glob("*.json") if version is None else (log / f"{version:020}.json",)
    for path in (*commits, log, log.parent, log.parent.parent):
        sync(path)


def sync(path: Path) -> None:
    """Wait until a file or directory is on the disk. Raises OSError."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _upload(uri: str, options: Options, source: Path, path: str) -> None:
    # What `deltalake.fs` wraps: under the wrapper, Arrow passes buffers that the library does not take.
    from deltalake._internal import DeltaFileSystemHandler

    output: Any = DeltaFileSystemHandler(uri, options).open_output_stream(path, {})
    with source.open("rb") as read:
        while chunk := read.read(_COPY_BYTES):
            output.write(chunk)
    output.close()  # only now the blob is there
