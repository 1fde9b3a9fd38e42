"""One exchange with the blob or queue service: signed, retried, length-checked, failures translated into `storage.api` errors.

The four read operations blobtide needs use urllib3 directly rather than the storage SDK's clients. Those need 2.0 ms of CPU per
request against 0.55 ms here, do not retry 429, retry the first 503 only after 15 s, and decode bodies unless told otherwise in
every call. Bodies are never decoded and redirects never followed. A body that arrives too slowly is abandoned, and nothing is
read beyond what was requested.
"""

from __future__ import annotations

import logging
import re
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote, urlencode

import certifi
import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, NameResolutionError, SSLError
from urllib3.util import make_headers, parse_url

from libs.common.azure.storage import metrics
from libs.common.azure.storage.api import StorageUnavailable
from libs.common.azure.storage.credentials import Endpoint, StorageLogin, StorageRequest, resolve
from libs.common.azure.storage.failures import Refused, failure, queue_failure
from libs.common.azure.storage.retry import Retrier, RetryPolicy, Transient
from libs.common.errors import ConfigError
from libs.common.security.redaction import excerpt
from libs.common.settings.storage import StorageAccount

T = TypeVar("T")

_API_VERSION = "2023-11-03"
# Idle connections kept for reuse; as many as a service may have requests in flight.
_POOL_SIZE = 256
_PRINTED_OBJECT = re.compile(r"^(HTTPS?Connection\(.*?\)|.*object at 0x\w+>|None): ")
_READ_SECONDS = 20.0
_TIMEOUT = urllib3.Timeout(connect=5.0, read=_READ_SECONDS)
# The timeout covers silence; a body that arrives more slowly than this for longer than the timeout is abandoned as well.
_SLOWEST_BYTES_PER_SECOND = 16_384
_CHUNK_BYTES = 65_536
_MOST_OF_AN_ERROR = 65_536


@dataclass(frozen=True, slots=True)
class Response:
    """A response with a 2xx status."""

    headers: Mapping[str, str]
    body: bytes


class StorageService:
    """A service of one account. Thread-safe; opens connections when first used."""

    _failure = staticmethod(failure)

    def __init__(
        self,
        sign_in: Callable[[], StorageLogin],
        alias: str,
        policy: RetryPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sign_in = sign_in
        self._alias = alias
        self._clock = clock
        self._login = sign_in()
        self._pool = _connection_pool(self._login.endpoint)
        # For plain requests, a proxy needs the destination in the request; for TLS it only opens the tunnel.
        self._origin = self._login.endpoint.origin if self._pool.proxy and self._pool.scheme == "http" else ""
        self._closing = threading.Event()
        self._retrier = Retrier(policy or RetryPolicy(), self._closing.wait, metrics.RETRIES.labels(alias).inc)
        self._requests = metrics.REQUESTS.labels(alias)

    def send(self, request: StorageRequest, decode: Callable[[Response], T]) -> T:
        """Return the result of `decode` for the response to `request`, whose path begins below the account.

        `decode` is part of the attempt: for a response damaged in transit it raises `Transient`, or whatever missing and
        malformed values raise.

        Raises:
            BlobGone, BlobChanged, BlobUnreadable, StorageUnavailable: see `storage.api`.
        """
        used = self._login
        try:
            return self._retrier.call(lambda: self._decoded(request, decode))
        except Refused:
            if not self._renew(used):
                raise
        return self._retrier.call(lambda: self._decoded(request, decode))

    def close(self) -> None:
        """End waits and close idle connections."""
        self._closing.set()
        self._pool.close()

    def _renew(self, refused: StorageLogin) -> bool:
        """Read secrets again; return whether they differ from those that were refused."""
        if self._login is not refused:  # another thread was first
            return True
        try:
            fresh = self._sign_in()
        except ConfigError:  # a file is just being replaced; the refusal is the more useful error
            return False
        if fresh.endpoint != refused.endpoint or fresh.authoriser == refused.authoriser:
            return False
        self._login = fresh
        return True

    def _decoded(self, request: StorageRequest, decode: Callable[[Response], T]) -> T:
        response = self._attempt(request)
        try:
            return decode(response)
        except (KeyError, ValueError, OverflowError) as error:  # a missing header, or an invalid number or date
            raise Transient(f"{self._alias}: invalid response from storage: {error!r:.200}") from error

    def _attempt(self, request: StorageRequest) -> Response:
        login = self._login
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _API_VERSION, **request.headers}
        path = login.endpoint.path + request.path
        signed = StorageRequest(request.method, path, dict(request.query), headers, request.most_bytes)
        login.authoriser.authorise(signed)
        response, body = self._exchange(signed)
        if not 200 <= response.status < 300:  # noqa: PLR2004 - the class of success
            raise self._failure(self._alias, request.path, response.status, response.headers)
        return Response(response.headers, body)

    def _exchange(self, request: StorageRequest) -> tuple[urllib3.BaseHTTPResponse, bytes]:
        target = self._origin + (f"{request.path}?{urlencode(request.query)}" if request.query else request.path)
        self._requests.inc()
        try:
            response = self._pool.urlopen(
                request.method,
                target,
                headers=request.headers,
                retries=False,
                redirect=False,
                assert_same_host=False,  # with a proxy, the pool's host is the proxy
                preload_content=False,
                decode_content=False,
            )
            good = 200 <= response.status < 300  # noqa: PLR2004 - the class of success
            return response, self._body(response, request.most_bytes if good else _MOST_OF_AN_ERROR)
        except NameResolutionError as error:
            raise StorageUnavailable(
                f"{self._alias}: host {self._pool.host} cannot be resolved; check the account name"
            ) from error
        except SSLError as error:
            raise StorageUnavailable(
                f"{self._alias}: no trusted TLS connection to {self._pool.host}: {_short(error)}"
            ) from error
        except HTTPError as error:
            raise Transient(f"{self._alias}: {self._pool.host}:{self._pool.port} does not respond: {_short(error)}") from error

    def _body(self, response: urllib3.BaseHTTPResponse, most: int) -> bytes:
        """Read the body as it arrives, one receive per chunk, checking the clock in between."""
        begun, received, chunks = self._clock(), 0, []
        while chunk := response.read1(_CHUNK_BYTES):
            chunks.append(chunk)
            received += len(chunk)
            if received > most:
                response.close()
                raise Transient(f"{self._alias}: the response from storage exceeds {most} bytes")
            seconds = self._clock() - begun
            if seconds > _READ_SECONDS + received / _SLOWEST_BYTES_PER_SECOND:
                response.close()
                raise Transient(f"{self._alias}: storage sends too slowly: {received} bytes in {seconds:.0f} s")
        return b"".join(chunks)


class BlobService(StorageService):
    """The blob service of one account."""

    def __init__(
        self,
        account: StorageAccount,
        alias: str,
        policy: RetryPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(partial(resolve, account, alias), alias, policy, clock)


class QueueService(StorageService):
    """The queue service of one account."""

    _failure = staticmethod(queue_failure)


def _short(error: Exception) -> str:
    """Return the error text, without the objects that urllib3 prints before it."""
    text = str(error.args[-1] if error.args else error)
    return excerpt(_PRINTED_OBJECT.sub("", text), 200)


def _connection_pool(endpoint: Endpoint) -> urllib3.HTTPConnectionPool:
    """Return a pool for this host, through the environment's proxy if there is one, unless the host is on this machine."""
    # Their DEBUG lines contain signatures.
    for name in ("urllib3", "azure", "msal"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))
    options: dict[str, Any] = {"maxsize": _POOL_SIZE, "timeout": _TIMEOUT, "retries": False}
    if endpoint.scheme == "https":
        options["ssl_context"] = _trust()
    proxy = urllib.request.getproxies().get(endpoint.scheme)
    if proxy and not endpoint.is_loopback and not urllib.request.proxy_bypass(endpoint.host):
        manager = _proxy_manager(proxy, endpoint.scheme, options)
    else:
        manager = urllib3.PoolManager(**options)
    try:
        return manager.connection_from_host(endpoint.host, endpoint.port, endpoint.scheme)
    except LocationValueError as error:
        raise ConfigError(f"not an address of a storage account: {error}") from error


def _proxy_manager(proxy: str, scheme: str, options: Mapping[str, Any]) -> urllib3.PoolManager:
    try:
        user = parse_url(proxy).auth
        headers = make_headers(proxy_basic_auth=unquote(user)) if user else None
        return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)
    except LocationValueError:
        what = (
            f"{scheme}_proxy in the environment is not a proxy URL such as http://host:port or http://user:password@host:port"
        )
        raise ConfigError(f"{what}, with special characters in the password percent-encoded") from None  # it has the password


def _trust() -> ssl.SSLContext:
    """Trust the CAs of the machine, and the public ones even if the image has none installed."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
