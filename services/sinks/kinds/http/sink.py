"""The ``http`` sink: batches of rows as requests to a web service (webhook). Promise: at least once.

Each request holds rows of one message as lines of JSON, a JSON array or CSV. Its header ``Idempotency-Key`` is the same
whenever these rows come again: a body is cut out of its message by `body_rows` and `body_bytes` alone, and the key is a hash of
its content and of the positions of its rows. At a receiver that remembers keys, each row therefore has an effect once, also
after a crash; at any other, rows come again if the process or the connection ends before the answer. What was taken before a
failure is not sent again by the same process.

A body that is too large is halved; so is one whose content the receiver refuses, until only the rows at fault are left, which
become dead letters. Everything else delays the sink. See `services.sinks.kinds.http.answers` for what each status means.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from pydantic import Field, field_validator, model_validator

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.http.client import HttpClient, Request
from libs.common.rows.formats.encoders import RowFormat
from libs.common.rows.row_type import RowType
from libs.common.settings import Settings
from services.sinks.frame.bodies import Body, BodyLimits, bodies_of
from services.sinks.frame.compression import Compression
from services.sinks.frame.contract import Outcome, Part, Sink
from services.sinks.frame.delivery import BodySender, Manner, Reply
from services.sinks.frame.headers import HeaderSettings
from services.sinks.frame.settings import DocumentBatchSettings, SinkSettings
from services.sinks.kinds.http.answers import reply_of
from services.sinks.kinds.http.content import BodyLayout, content_for

KIND: Final = "http"
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?")
_PLACES: Final = [[name, "", None] for name in ("rows", "sink", "shard")]
_KEY_HEADER: Final = re.compile(r"[A-Za-z0-9-]{0,100}")


class Method(StrEnum):
    """Methods of requests with a body."""

    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"


class HttpSinkSettings(SinkSettings, HeaderSettings):
    """sinks.http. Sign in with at most one of: username and password, api_key, bearer_token."""

    batch: DocumentBatchSettings = DocumentBatchSettings()
    hosts: tuple[str, ...] = Field(
        min_length=1, description="URLs of equivalent receivers, used in rotation: a list, or comma-separated."
    )
    path: str = Field(
        default="",
        description="Path, and perhaps query, after the URL. {rows} inserts the row type, {sink} the sink's name, {shard} the"
        " number of the rows' Kafka partition.",
    )
    method: Method = Field(default=Method.POST, description="Method of requests.")
    format: RowFormat = Field(default=RowFormat.JSON, description="Format of rows: json, ecs (flows only), otel or csv.")
    layout: BodyLayout = Field(
        default=BodyLayout.LINES, description="lines: one JSON document per line. array: a JSON array of them."
    )
    compression: Compression = Field(default=Compression.GZIP, description="Compression of bodies, as Content-Encoding.")
    idempotency_header: str = Field(
        default="Idempotency-Key",
        description="Header with the key of a body. Empty: no key, and a body may hold rows of several messages.",
    )
    repeat_status: int | None = Field(
        default=None,
        ge=200,
        le=499,
        description="Status with which the receiver says that it has already processed a key, if it has one of its own.",
    )
    body_rows: int = Field(default=5_000, ge=1, le=1_000_000, description="Maximum number of rows in a body.")
    body_bytes: int = Field(
        default=1_000_000, ge=1_000, le=90_000_000, description="Maximum size of a body, uncompressed; a larger row goes alone."
    )
    in_flight: int = Field(default=4, ge=1, le=64, description="Concurrent requests.")
    ordered: bool = Field(
        default=False,
        description="Whether bodies with rows of one partition, and thus of one source, are sent one after the other.",
    )
    redirects: int = Field(
        default=3, ge=0, le=10, description="Redirects (307 and 308) to follow within the same host, for each request."
    )
    check: bool = Field(
        default=True, description="Whether to send a HEAD request at the start, to find a wrong address or login."
    )

    @field_validator("path")
    @classmethod
    def _path(cls, path: str) -> str:
        try:
            places = [place for _, *place in string.Formatter().parse(path) if place[0] is not None]
            example = path.format(rows="rows", sink="sink", shard=0)
        except (ValueError, LookupError):
            places, example = [[None]], ""
        if any(place not in _PLACES for place in places):
            raise ValueError("only {rows}, {sink} and {shard} are allowed in braces: values of rows choose no path")
        if not _PATH.fullmatch(example):
            raise ValueError("a path begins with a slash and has no spaces; write other characters as %XX")
        return path

    @model_validator(mode="after")
    def _key_header_is_free(self) -> HttpSinkSettings:
        if not _KEY_HEADER.fullmatch(self.idempotency_header):
            raise ValueError("idempotency_header: a name consists of letters, digits and hyphens")
        taken = {name.lower() for name in (*self.headers, *self.header_files)}
        if self.idempotency_header.lower() in taken:
            raise ValueError(f"header {self.idempotency_header} is given twice")
        return self


class HttpSink(Sink):
    """Rows as requests; see the module."""

    def __init__(self, settings: HttpSinkSettings, row_type: RowType) -> None:
        self._settings = settings
        self._row_type = row_type
        self._name = KIND
        self._content = content_for(settings.format, settings.layout, row_type, settings.shape(row_type))
        manner = Manner(settings.in_flight, in_order=settings.ordered, judges=settings.dead_letter_limit < 1)
        self._delivery = BodySender(self._send, manner)
        self._client: HttpClient | None = None
        own = {name.lower() for name in settings.headers}
        media_type = {} if "content-type" in own else {"Content-Type": self._content.media_type}
        self._headers = {**media_type, **settings.compression.headers, **settings.headers}

    def join(self, name: str, pipeline: Settings) -> None:
        """Take the name, which may be in the path."""
        del pipeline
        self._name = name

    def read_files(self) -> None:
        """Read the secrets and check the TLS files."""
        self._settings.cluster(KIND)

    def open(self) -> None:
        """Find out whether the receiver is there and accepts the sign-in."""
        self.close()
        self._client = HttpClient.checked(self._settings.cluster(KIND, self._settings.in_flight), self._check)
        self._delivery.open()

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Send the rows."""
        groups = [self._bodies(number, part) for number, part in enumerate(parts)]
        if self._settings.ordered:
            return self._delivery.write(groups)
        return self._delivery.write([body] for group in groups for body in group)

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` while waiting for answers."""
        self._delivery.while_waiting(beat)

    def release(self, shards: Collection[int]) -> None:
        """Forget which bodies were taken before a failure."""
        del shards
        self._delivery.forget()

    def close(self) -> None:
        """Wait for requests in flight and close connections; idempotent."""
        self._delivery.close()
        if self._client is not None:
            self._client.close()
            self._client = None

    def _bodies(self, number: int, part: Part) -> Iterator[Body]:
        if not self._settings.idempotency_header:
            part = replace(part, ends=(len(part.rows),))
        limits = BodyLimits(self._settings.body_rows, self._settings.body_bytes)
        return bodies_of(part, number, self._content.slices(part.rows), limits)

    def _send(self, body: Body) -> Reply:
        settings = self._settings
        assert self._client is not None, "open first"  # noqa: S101
        key = {settings.idempotency_header: body.name} if settings.idempotency_header else {}
        content = settings.compression.apply(self._content.body(body.texts))
        path = self._path(body.shard)
        answer = self._client.send(Request(settings.method, path, content, {**self._headers, **key}, settings.redirects))
        return reply_of(answer, settings.repeat_status)

    def _check(self, client: HttpClient) -> None:
        """Raise `ServerUnreachable` if nobody answers, and `ConfigError` if it denies the sign-in; others say nothing."""
        if not self._settings.check:
            return
        try:
            answer = client.send(Request("HEAD", self._path(0), redirects=self._settings.redirects))
        except Retry as error:
            raise ServerUnreachable(f"{error}; is the receiver running, and are the sink's hosts correct?") from error
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise ConfigError(
                "the receiver denies the sign-in; check username and password, bearer_token, api_key or header_files"
            )

    def _path(self, shard: int) -> str:
        return self._settings.path.format(rows=self._row_type.name, sink=self._name, shard=shard)
