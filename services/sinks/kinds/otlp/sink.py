"""The ``otlp`` sink: rows as OpenTelemetry log records over OTLP/HTTP. Promise: at least once.

Requests are ``ExportLogsServiceRequest`` messages in protobuf, with rows of one message each. A record has the attribute
``log.record.uid``, the identity of its row and the same in every replay, by which a backend may remove duplicates; the protocol
itself knows no duplicates. Records come again if the process or the connection ends before the answer. What was taken before a
failure is not sent again by the same process.

Records that the receiver rejects (a partial success, or an answer that is not retryable) become dead letters. They are found
by halving: a partial success only says how many there are, so some of the other records are sent again for each of them.
Everything else delays the sink. See `services.sinks.kinds.otlp.answers` for what each answer means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from http import HTTPStatus
from typing import Final

import pyarrow as pa
from pydantic import Field, field_validator

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.http.client import HttpClient, Request
from libs.common.rows.formats.encoders import log_records_for
from libs.common.rows.formats.otel_proto import request
from libs.common.rows.row_type import RowType
from services.sinks.frame.bodies import Body, BodyLimits, bodies_of
from services.sinks.frame.compression import Compression
from services.sinks.frame.contract import Outcome, Part, Sink
from services.sinks.frame.delivery import BodySender, Manner, Reply
from services.sinks.frame.headers import HeaderSettings
from services.sinks.frame.settings import DocumentBatchSettings, SinkSettings
from services.sinks.kinds.otlp.answers import reply_of

KIND: Final = "otlp"
_PATH: Final = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
_NO_RECORDS: Final = pa.chunked_array([], pa.binary())


class OtlpSettings(SinkSettings, HeaderSettings):
    """sinks.otlp. Sign in with at most one of: username and password, api_key, bearer_token."""

    batch: DocumentBatchSettings = DocumentBatchSettings()
    hosts: tuple[str, ...] = Field(
        default=("http://127.0.0.1:4318",),
        min_length=1,
        description="URLs of equivalent receivers, used in rotation: a list, or comma-separated.",
    )
    path: str = Field(default="/v1/logs", description="Path after the URL.")
    compression: Compression = Field(default=Compression.GZIP, description="Compression of requests.")
    resource: dict[str, str] = Field(
        default_factory=dict,
        description="Attributes of the resource, as name: value, besides or instead of cloud.provider and service.name.",
    )
    body_rows: int = Field(default=5_000, ge=1, le=1_000_000, description="Maximum number of records in a request.")
    body_bytes: int = Field(
        default=2_000_000,
        ge=1_000,
        le=90_000_000,
        description="Maximum size of a request, uncompressed; a larger row goes alone.",
    )
    in_flight: int = Field(default=4, ge=1, le=64, description="Concurrent requests.")

    @field_validator("path")
    @classmethod
    def _path(cls, path: str) -> str:
        if not _PATH.fullmatch(path):
            raise ValueError("a path begins with a slash and has no spaces; write other characters as %XX")
        return path

    @field_validator("resource")
    @classmethod
    def _attributes(cls, resource: dict[str, str]) -> dict[str, str]:
        if "" in resource:
            raise ValueError("an attribute needs a name")
        return resource


class OtlpSink(Sink):
    """Rows as log records; see the module."""

    def __init__(self, settings: OtlpSettings, row_type: RowType) -> None:
        self._settings = settings
        self._records = log_records_for(row_type, settings.shape(row_type))
        self._delivery = BodySender(self._send, Manner(settings.in_flight, judges=settings.dead_letter_limit < 1))
        self._client: HttpClient | None = None
        media_type = {"Content-Type": "application/x-protobuf", "Accept": "application/x-protobuf"}
        self._headers = {**settings.headers, **media_type, **settings.compression.headers}

    def read_files(self) -> None:
        """Read the secrets and check the TLS files."""
        self._settings.cluster(KIND)

    def open(self) -> None:
        """Export no records, to find out whether a receiver is there and accepts the sign-in."""
        self.close()
        self._client = HttpClient.checked(self._settings.cluster(KIND, self._settings.in_flight), self._check)
        self._delivery.open()

    def write(self, parts: Sequence[Part]) -> Outcome:
        """Export the rows."""
        return self._delivery.write([body] for number, part in enumerate(parts) for body in self._bodies(number, part))

    def while_waiting(self, beat: Callable[[], None]) -> None:
        """Call `beat` while waiting for answers."""
        self._delivery.while_waiting(beat)

    def release(self, shards: Collection[int]) -> None:
        """Forget which records were taken before a failure."""
        del shards
        self._delivery.forget()

    def close(self) -> None:
        """Wait for requests in flight and close connections; idempotent."""
        self._delivery.close()
        if self._client is not None:
            self._client.close()
            self._client = None

    def _bodies(self, number: int, part: Part) -> Iterator[Body]:
        limits = BodyLimits(self._settings.body_rows, self._settings.body_bytes)
        return bodies_of(part, number, self._records(part.rows).slices(), limits)

    def _send(self, body: Body) -> Reply:
        assert self._client is not None, "open first"  # noqa: S101
        return reply_of(self._client.send(self._request(body.texts)))

    def _request(self, records: pa.ChunkedArray) -> Request:
        content = self._settings.compression.apply(request(records, self._settings.resource))
        return Request("POST", self._settings.path, content, self._headers)

    def _check(self, client: HttpClient) -> None:
        """Raise `ServerUnreachable` if no receiver answers, and `ConfigError` if it denies the sign-in."""
        try:
            answer = client.send(self._request(_NO_RECORDS))
            if answer.status == HTTPStatus.UNAUTHORIZED:
                given = "username and password, bearer_token, api_key or header_files"
                raise ConfigError(f"the receiver denies the sign-in; check {given}")
            reply_of(answer)  # a request without records is correct, but some receivers refuse it
        except Retry as error:
            raise ServerUnreachable(f"{error}; is the receiver running, and are the sink's hosts correct?") from error
