"""`storage.api.Container` on Azure Blob Storage: listings, block lists and pinned range reads over REST.

ETags are kept without quotes (listings have none, headers have them). Listings arrive page by page, and a page is not kept once
it has been yielded. Snapshots, old versions and soft-deleted blobs are not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from libs.common.azure.retry import RetryPolicy, Transient
from libs.common.azure.storage.api import (
    BlobChanged,
    BlobGone,
    BlobInfo,
    BlobUnreadable,
    Block,
    BlockList,
    Container,
    ListedBlob,
    StorageError,
)
from libs.common.azure.storage.credentials import StorageRequest
from libs.common.azure.storage.failures import WrongBlobType
from libs.common.azure.storage.page import parse_xml, read_directories, read_page
from libs.common.errors import ConfigError, ServerUnreachable
from libs.common.settings.storage import StorageAccount

if TYPE_CHECKING:
    from libs.common.azure.storage.rest import BlobService, Response

_CHECK_SECONDS = 3.0
# Several pages are in memory at a time; with the longest names, each takes a few megabytes.
_PAGE_BLOBS = "2000"

T = TypeVar("T")


def open_container(account: StorageAccount, alias: str, container: str) -> Container:
    """Return a container of the environment `alias`; no request is sent yet. Threads may share it.

    Raises:
        ConfigError: if the settings cannot work, or the extra ``azure`` is not installed.
    """
    return AzureContainer(_service(account, alias, RetryPolicy()), container)


def check_container(account: StorageAccount, alias: str, container: str) -> None:
    """Request one name from a container, to check URL, credentials and container.

    Raises:
        ConfigError: if the settings cannot work or the container does not exist.
        ServerUnreachable: if storage refuses or does not answer within seconds.
    """
    opened = AzureContainer(_service(account, alias, RetryPolicy(deadline=_CHECK_SECONDS)), container)
    try:
        opened.probe()
    except BlobGone as error:
        raise ConfigError(f"environment {alias} has no container {container!r}; check 'sources' in its settings") from error
    except StorageError as error:
        raise ServerUnreachable(str(error)) from error
    finally:
        opened.close()


def _service(account: StorageAccount, alias: str, policy: RetryPolicy) -> BlobService:
    try:
        from libs.common.azure.storage.rest import BlobService
    except ModuleNotFoundError as error:
        raise ConfigError(f"reading blob storage needs the extra 'azure' ({error.name} is missing): blobtide[azure]") from error
    return BlobService(account, alias, policy)


class AzureContainer:
    """One container."""

    def __init__(self, service: BlobService, name: str) -> None:
        self._service = service
        self._path = f"/{quote(name, safe='$')}"

    def probe(self) -> datetime | None:
        """Request one name; return the time of the response, by storage's own clock."""

        def made_at(response: Response) -> datetime | None:
            read_page(response.body, None)
            return _time(response.headers.get("Date"))

        query = {"restype": "container", "comp": "list", "maxresults": "1"}
        return self._service.send(StorageRequest("GET", self._path, query), made_at)

    def list_blobs(self, prefix: str) -> Iterator[ListedBlob]:
        """Yield the blobs under `prefix` in name order, page by page."""
        yield from self._pages({"prefix": prefix}, _blobs)

    def list_directories(self, prefix: str, delimiter: str = "/") -> Iterator[str]:
        """Yield what the names under `prefix` have up to the next `delimiter` and including it, each once, in order."""
        yield from self._pages({"prefix": prefix, "delimiter": delimiter}, _directories)

    def info(self, name: str) -> BlobInfo:
        """Return the current state of one blob."""
        return self._service.send(
            StorageRequest("HEAD", self._blob_path(name)), lambda response: _described(name, response.headers)
        )

    def block_list(self, name: str) -> BlockList:
        """Return the committed block list with its ETag; without blocks for append blobs and blobs uploaded in one request."""
        request = StorageRequest("GET", self._blob_path(name), {"comp": "blocklist", "blocklisttype": "committed"})
        try:
            found = self._service.send(request, _block_list)
        except WrongBlobType:
            found = None
        if found is not None:
            return found
        info = self.info(name)  # an empty list has no ETag
        return BlockList(info.etag, info.size, info.last_modified, ())

    def read(self, name: str, start: int, end: int, etag: str) -> bytes:
        """Return exactly the bytes ``[start, end)`` of the version that `etag` names, undecoded; without it, of the newest."""
        if start == end:
            return b""

        def whole(response: Response) -> bytes:
            if len(response.body) == end - start:
                return response.body
            if response.headers.get("Content-Length") == str(len(response.body)):
                raise BlobChanged(f"{name[:300]} is shorter than it was")
            raise Transient(f"{len(response.body)} bytes arrived of {end - start} requested")

        headers = {"x-ms-range": f"bytes={start}-{end - 1}"} | ({"If-Match": f'"{etag}"'} if etag else {})
        return self._service.send(StorageRequest("GET", self._blob_path(name), {}, headers, end - start), whole)

    def close(self) -> None:
        """Close connections."""
        self._service.close()

    def _blob_path(self, name: str) -> str:
        # Servers and proxies resolve dot segments: such a name could leave the container.
        if any(segment in {".", ".."} for segment in name.split("/")):
            raise BlobUnreadable(f"blob name contains a dot segment: {name[:200]!r}")
        return f"{self._path}/{quote(name, safe='/~')}"

    def _pages(self, query: Mapping[str, str], read: Callable[[Response], tuple[list[T], str]]) -> Iterator[T]:
        """Yield what `read` finds in every page of a listing; it also returns the marker of the next page."""
        marker = ""
        while True:
            asked = {"restype": "container", "comp": "list", "maxresults": _PAGE_BLOBS, **{k: v for k, v in query.items() if v}}
            if marker:
                asked["marker"] = marker
            found, marker = self._service.send(StorageRequest("GET", self._path, asked), read)
            yield from found
            if not marker:
                return


def _blobs(response: Response) -> tuple[list[ListedBlob], str]:
    page = read_page(response.body, _time(response.headers.get("Date")))
    return page.blobs, page.marker


def _directories(response: Response) -> tuple[list[str], str]:
    return read_directories(response.body)


def _block_list(response: Response) -> BlockList | None:
    """Parse a block list; None if there are no blocks."""
    blocks = tuple(
        Block(element.findtext("Name", ""), int(element.findtext("Size", "0")))
        for element in parse_xml(response.body, "BlockList").iterfind("CommittedBlocks/Block")
    )
    if not blocks:
        return None
    headers = response.headers
    size = int(headers["x-ms-blob-content-length"])
    return BlockList(_etag(headers), size, parsedate_to_datetime(headers["Last-Modified"]), blocks)


def _described(name: str, headers: Mapping[str, str]) -> BlobInfo:
    return BlobInfo(
        name=name,
        etag=_etag(headers),
        size=int(headers["Content-Length"]),
        blob_type=headers.get("x-ms-blob-type", "BlockBlob"),
        last_modified=parsedate_to_datetime(headers["Last-Modified"]),
        creation_time=_time(headers.get("x-ms-creation-time")),
        archived=headers.get("x-ms-access-tier") == "Archive",
        as_of=_time(headers.get("Date")),
    )


def _etag(headers: Mapping[str, str]) -> str:
    return headers["ETag"].strip('"')


def _time(text: str | None) -> datetime | None:
    return parsedate_to_datetime(text) if text else None
