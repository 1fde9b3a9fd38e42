"""HTTP to a cluster of equivalent servers: several hosts in rotation, one way to sign in, no surprises.

A host that does not respond, or responds with 502, 503 or 504, is avoided for a while and the next one is tried, so a request
may be sent twice: callers only make repeatable requests. A redirect is only followed if the request asks for it and it stays on
the same host: no response may choose a host.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError

from libs.common.errors import ConfigError, Retry
from libs.common.http.bounded import BodyTooSlow, read_at_most
from libs.common.http.hosts import Hosts
from libs.common.http.retry_after import retry_after_seconds
from libs.common.http.timed import TIMED_POOLS

_SICK: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_SAME_METHOD: Final = frozenset({HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT})
_LONGEST_PAUSE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Tls:
    """How servers are verified."""

    verify: bool = True
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A repeatable request.

    Attributes:
        path: begins with a slash, unless it is empty; already quoted.
        redirects: how many redirects to other paths of the same host to follow, of those that keep method and body.
        most_bytes: of the answer's body; what is larger is cut. All of the body must then come within the cluster's time limit,
            which otherwise only limits each silence.
    """

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    redirects: int = 0
    most_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's response."""

    status: int
    body: bytes
    retry_after: float | None = None  # seconds, if given
    headers: Mapping[str, str] = field(default_factory=dict)  # names in any case
    is_cut: bool = False  # the body is only the beginning


# It reports headers of a wrong form for each response, with a traceback; whoever answers could fill the log.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)


class AnswerTime(Enum):
    """What the time limit of a cluster is one of."""

    SILENCE = auto()  # a large answer may take longer, as long as it goes on
    WHOLE = auto()  # a slow one is given up, for those who do not trust the server


@dataclass(frozen=True, slots=True)
class Cluster:
    """The addresses of a cluster (``http(s)://host[:port][/path]``), and how to connect."""

    addresses: tuple[str, ...]
    headers: Mapping[str, str]  # secret
    tls: Tls
    timeout_seconds: float
    connections: int
    answer_time: AnswerTime = AnswerTime.SILENCE


class HttpClient:
    """Sends requests to a cluster. Thread-safe."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._hosts = Hosts(cluster.addresses, clock)
        if not cluster.tls.verify:  # we warn once at start-up instead of at every request
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._pool = urllib3.PoolManager(
            maxsize=cluster.connections,
            headers={"User-Agent": "blobtide", "Accept": "application/json", **cluster.headers},
            timeout=urllib3.Timeout(connect=min(5.0, cluster.timeout_seconds), read=cluster.timeout_seconds),
            retries=False,
            cert_reqs="CERT_REQUIRED" if cluster.tls.verify else "CERT_NONE",
            ca_certs=str(cluster.tls.ca_file) if cluster.tls.ca_file else None,
            cert_file=str(cluster.tls.cert_file) if cluster.tls.cert_file else None,
            key_file=str(cluster.tls.key_file) if cluster.tls.key_file else None,
        )
        if cluster.answer_time is AnswerTime.WHOLE:
            self._pool.pool_classes_by_scheme = TIMED_POOLS

    @classmethod
    def checked(cls, cluster: Cluster, check: Callable[[HttpClient], None]) -> HttpClient:
        """Return a client with which `check` has succeeded; if it raises, the client is closed."""
        client = cls(cluster)
        try:
            check(client)
        except BaseException:
            client.close()
            raise
        return client

    def send(self, request: Request) -> Answer:
        """Return the answer of the first host that has one.

        Raises:
            Retry: if no host answers, or all that do are sick.
            ConfigError: if the server's certificate is not accepted.
        """
        reason, asked = "", 0.0
        for address in self._hosts.candidates():
            try:
                answer = self._send_to(address, request)
            # Asking the others as well would take as long again, and may be the same work.
            except (ReadTimeoutError, BodyTooSlow) as error:
                self._hosts.failed(address)
                raise Retry(f"{address} does not respond in time", after=self._hosts.pause()) from error
            except HTTPError as error:
                _refuse_certificate(address, error)
                reason = f"{address} does not respond: {_kind(error)}"
            else:
                if answer.status not in _SICK:
                    self._hosts.worked(address)
                    return answer
                reason, asked = f"{address} answers {answer.status}", answer.retry_after or 0.0
            self._hosts.failed(address)
        raise Retry(reason, after=max(asked, self._hosts.pause()))

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def _send_to(self, address: str, request: Request) -> Answer:
        headers = {**self._pool.headers, **request.headers}
        url, until = address.rstrip("/") + request.path, self._clock() + self._cluster.timeout_seconds
        for left in reversed(range(request.redirects + 1)):
            response = self._pool.request(
                request.method,
                url,
                body=request.body,
                headers=headers,
                redirect=False,
                preload_content=request.most_bytes is None,
            )
            onward = _redirected(url, response) if left else None
            if onward is None:
                break
            response.close()
            url = onward
        most, retry_after = request.most_bytes, retry_after_seconds(response.headers.get("Retry-After"), _LONGEST_PAUSE)
        body, is_cut = (response.data, False) if most is None else read_at_most(response, most, until, self._clock)
        return Answer(response.status, body, retry_after, response.headers, is_cut)


def _redirected(url: str, response: urllib3.BaseHTTPResponse) -> str | None:
    """Return where a response redirects the same request to, if that is on the same host."""
    place = response.headers.get("Location")
    if response.status not in _SAME_METHOD or place is None:
        return None
    try:
        onward = urljoin(url, place)
        old, new = urlsplit(url), urlsplit(onward)
    except ValueError:
        return None
    return onward if (old.scheme, old.netloc) == (new.scheme, new.netloc) else None


def _refuse_certificate(address: str, error: HTTPError) -> None:
    if isinstance(error, urllib3.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        raise ConfigError(
            f"{address}: the server's certificate is not trusted; set ca_file to the certificate of its CA"
        ) from error


def _kind(error: HTTPError) -> str:
    """Name an error; its text may quote headers and addresses."""
    return type(error).__name__
