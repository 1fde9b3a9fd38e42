"""Exchanges with one host of Azure, over pooled connections: bodies are bounded in length and time, and are never decoded.

Large bodies can be made to wait for room in memory that all of them share.

Redirects are never followed, and nothing is retried. A proxy of the environment is used unless the host is on this machine.
"""

from __future__ import annotations

import logging
import re
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import certifi
import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, NameResolutionError, SSLError
from urllib3.util import make_headers, parse_url

from libs.common.azure.endpoint import Endpoint
from libs.common.errors import BlobtideError, ConfigError
from libs.common.security.redaction import excerpt
from libs.common.work.room import RoomShare

# Idle connections kept for reuse; as many as a service may have requests in flight.
_POOL_SIZE: Final = 256
_PRINTED_OBJECT: Final = re.compile(r"^(HTTPS?Connection\(.*?\)|.*object at 0x\w+>|None): ")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_READ_SECONDS: Final = 20.0
# The timeout covers silence; a body that arrives more slowly than this for longer than the timeout is abandoned as well.
_SLOWEST_BYTES_PER_SECOND: Final = 16_384
_CHUNK_BYTES: Final = 65_536
_MOST_OF_AN_ERROR: Final = 65_536
UNCOUNTED_BYTES: Final = 262_144
"""Of a body, without taking room: most are smaller."""


class NoConnection(BlobtideError):
    """The host cannot be found, or no trusted connection to it can be made."""


class ExchangeBroken(BlobtideError):
    """The host did not respond, or its response did not arrive completely."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request.

    Attributes:
        target: path and query, percent-encoded.
        most_bytes: length of the longest good response.
        share: where a large response takes room before it is read; it keeps that room afterwards.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    most_bytes: int
    body: bytes | None = field(default=None, repr=False)
    share: RoomShare | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class HostResponse:
    """A response, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return _is_success(self.status)


class AzureHost:
    """One host, in errors called `name` (such as ``storage``) of `alias`. Thread-safe; connects when first used."""

    def __init__(
        self,
        endpoint: Endpoint,
        alias: str,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        read_seconds: float = _READ_SECONDS,
    ) -> None:
        self._alias = alias
        self._name = name
        self._clock = clock
        self._read_seconds = read_seconds
        self._pool = _connection_pool(endpoint, read_seconds)
        # For plain requests, a proxy needs the destination in the request; for TLS it only opens the tunnel.
        self._origin = endpoint.origin if self._pool.proxy and self._pool.scheme == "http" else ""

    def exchange(self, request: Outgoing) -> HostResponse:
        """Send a request once and return the response.

        Raises:
            NoConnection, ExchangeBroken: if there is none.
        """
        alias, host = self._alias, self._pool.host
        try:
            response = self._pool.urlopen(
                request.method,
                self._origin + request.target,
                body=request.body,
                headers=request.headers,
                retries=False,
                redirect=False,
                assert_same_host=False,  # with a proxy, the pool's host is the proxy
                preload_content=False,
                decode_content=False,
            )
            is_success = _is_success(response.status)
            most, share = (request.most_bytes, request.share) if is_success else (_MOST_OF_AN_ERROR, None)
            body = self._whole_body(response, _BodyRoom(share, most, _length(response)))
            return HostResponse(response.status, response.headers, body)
        except NameResolutionError as error:
            raise NoConnection(f"{alias}: host {host} cannot be resolved; check the name of the account or host") from error
        except SSLError as error:
            raise NoConnection(f"{alias}: no trusted TLS connection to {host}: {_short(error)}") from error
        except HTTPError as error:
            raise ExchangeBroken(f"{alias}: {host}:{self._pool.port} does not respond: {_short(error)}") from error

    def close(self) -> None:
        """Close idle connections."""
        self._pool.close()

    def _whole_body(self, response: urllib3.BaseHTTPResponse, room: _BodyRoom) -> bytes:
        try:
            body = self._body(response, room)
        except BaseException:
            room.keep(0)
            raise
        room.keep(len(body))
        return body

    def _body(self, response: urllib3.BaseHTTPResponse, room: _BodyRoom) -> bytes:
        """Read the body as it arrives, one receive per chunk, checking the clock in between."""
        received, chunks = 0, []
        if room.is_needed(received):
            self._take(response, room)
        begun = self._clock()
        while chunk := response.read1(_CHUNK_BYTES):
            chunks.append(chunk)
            received += len(chunk)
            if received > room.most:
                response.close()
                raise ExchangeBroken(f"{self._alias}: the response from {self._name} exceeds {room.most} bytes")
            if room.is_needed(received):
                begun += self._take(response, room)
            seconds = self._clock() - begun
            if seconds > self._read_seconds + received / _SLOWEST_BYTES_PER_SECOND:
                response.close()
                raise ExchangeBroken(f"{self._alias}: {self._name} sends too slowly: {received} bytes in {seconds:.0f} s")
        return b"".join(chunks)

    def _take(self, response: urllib3.BaseHTTPResponse, room: _BodyRoom) -> float:
        """Take the room that a body needs, and return how long that took. Meanwhile the host waits, too."""
        begun = self._clock()
        if not room.take():
            response.close()
            raise ExchangeBroken(f"{self._alias}: closing")
        return self._clock() - begun


class _BodyRoom:
    """The room that one body takes: none if it is small; otherwise its length or, unless that is known, the longest."""

    def __init__(self, share: RoomShare | None, most: int, length: int | None) -> None:
        self._share = share
        self.most = most
        self._length = length
        self.keep(0)

    def is_needed(self, received: int) -> bool:
        """Return whether room must be taken before more is read."""
        is_large = max(received, self._length or 0) > UNCOUNTED_BYTES
        return is_large and self._share is not None and not self._share.size

    def take(self) -> bool:
        """Take room, which may have to be waited for; False if there will be none."""
        return self._share is None or self._share.change(self.most if self._length is None else min(self.most, self._length))

    def keep(self, size: int) -> None:
        """Give back what the body did not need."""
        if self._share is not None:
            self._share.change(size if size > UNCOUNTED_BYTES else 0)


def _length(response: urllib3.BaseHTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if _LENGTH.fullmatch(text) else None


def _is_success(status: int) -> bool:
    return 200 <= status < 300  # noqa: PLR2004 - the class of success


def _short(error: Exception) -> str:
    """Return the error text, without the objects that urllib3 prints before it."""
    text = str(error.args[-1] if error.args else error)
    return excerpt(_PRINTED_OBJECT.sub("", text), 200)


def _connection_pool(endpoint: Endpoint, read_seconds: float) -> urllib3.HTTPConnectionPool:
    """Return a pool for this host, through the environment's proxy if there is one, unless the host is on this machine."""
    # Their DEBUG lines contain signatures.
    for name in ("urllib3", "azure", "msal"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))
    timeout = urllib3.Timeout(connect=5.0, read=read_seconds)
    options: dict[str, Any] = {"maxsize": _POOL_SIZE, "timeout": timeout, "retries": False}
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
        raise ConfigError(f"not an address of a service of Azure: {error}") from error


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
