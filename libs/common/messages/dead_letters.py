"""Dead letters: the messages in ``Errors``, with the original bytes, the position, a bounded code and a readable reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from libs.common.messages.headers import Headers
from libs.common.security.redaction import redact_reason

MAX_REASON = 500
_TYPE = "dead-letter"
_TYPE_HEADER = ("type", _TYPE.encode())
OMITTED_BYTES = "omitted-bytes"  # in `DeadLetter.source`: number of original bytes not in `data`


class ErrorCode(StrEnum):
    """The bounded set of reasons, which become metric labels."""

    SHORT_TUPLE = "short_tuple"  # fewer than the mandatory fields
    LONG_TUPLE = "long_tuple"  # more fields than the format has
    BAD_NUMBER = "bad_number"  # a time, port, protocol or counter is not a number or is out of range
    BAD_ADDRESS = "bad_address"  # not an IP address
    BAD_RECORD = "bad_record"  # JSON of the wrong shape: a key is missing, a value is of another type, a name is too long
    BAD_JSON = "bad_json"  # not JSON
    BAD_TEXT = "bad_text"  # a line that is not UTF-8
    UNKNOWN_FORMAT = "unknown_format"  # a category or version that no parser supports
    BAD_MESSAGE = "bad_message"  # headers or encoding of a Kafka message are broken
    TOO_LARGE = "too_large"  # larger than a configured limit; by reference
    UNSUPPORTED_BLOB = "unsupported_blob"  # archived, encrypted, or of an unsupported kind; by reference
    INCOMPLETE_BLOB = "incomplete_blob"  # a blob was deleted, replaced or refused before it was read completely; by reference
    CUT_FILE = "cut_file"  # compressed data is truncated or damaged, or (in `convert`) reading a local file failed
    TRAILING_BYTES = "trailing_bytes"  # a complete gzip member or zstd frame is followed by something that is not another one
    QUARANTINED = "quarantined"  # the blob is in quarantine; by reference
    UNHANDLED = "unhandled"  # a message of an event queue was delivered too often without being handled
    REFUSED = "refused"  # the destination refused this record
    HANDLER_CRASH = "handler_crash"  # our code raised on this record


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that cannot be processed.

    The position uses the names of blobs and flows; a row of another type puts its own source there.

    Attributes:
        stage: what gave up: ``blob_monitor``, ``ingest``, ``parser``, ``aggregator``, ``recorder``, ``sink.<name>``,
            ``convert``.
        code: bounded reason.
        reason: one sentence for people; redacted, and cut at 500 characters, when it is written.
        data: the original bytes; only their beginning, or nothing, if they are given by reference.
        blob, generation, record_offset, tuple_index: position in the source, as far as known.
        source: Kafka coordinates of the message it came from, as ``topic``, ``partition``, ``offset``; for a range read from a
            blob, its ``length``; for an event, ``queue`` and ``message``; `OMITTED_BYTES` if `data` is incomplete.
            For an answer of an HTTP source: ``url``, ``status``, ``asked_at``.
        original: the headers of that message, if the whole message is given up.
    """

    stage: str
    code: ErrorCode
    reason: str
    data: bytes
    key: bytes | None = None
    blob: str | None = None
    generation: str | None = None
    record_offset: int | None = None
    tuple_index: int | None = None
    source: Mapping[str, str] = field(default_factory=dict)
    original: Headers = ()

    def headers(self) -> Headers:
        """Return the headers of the ``Errors`` message."""
        fields: list[tuple[str, object]] = [
            ("type", _TYPE),
            ("stage", self.stage),
            ("code", self.code.value),
            ("reason", redact_reason(self.reason)[:MAX_REASON]),
            ("blob", self.blob),
            ("generation", self.generation),
            ("record-offset", self.record_offset),
            ("tuple-index", self.tuple_index),
            *((f"source-{name}", value) for name, value in self.source.items()),
        ]
        own = tuple((name, str(value).encode()) for name, value in fields if value is not None)
        return own + tuple((f"original-{name}", value) for name, value in self.original)


def is_dead_letter(headers: Headers) -> bool:
    """Return whether these are headers of an ``Errors`` message; some may still be missing or malformed."""
    return next((value for name, value in headers if name == "type"), b"") == _TYPE.encode()


def stage_and_code(headers: Headers) -> tuple[str, str] | None:
    """Return stage and code, if these are headers of an ``Errors`` message as made by `DeadLetter.headers`."""
    if not headers or headers[0] != _TYPE_HEADER:
        return None
    (_, stage), (_, code) = headers[1:3]
    return stage.decode(), code.decode()
