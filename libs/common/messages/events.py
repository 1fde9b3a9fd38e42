"""Control events exchanged by the monitor, ingest and the parser, and the state of recorders, in Avro single-object encoding.

Every message is ``C3 01``, the 8-byte little-endian CRC-64-AVRO fingerprint of the writer's schema, and the Avro body
(Avro 1.11 specification, "Single-object encoding"), so a reader needs no registry. The schemas are the files in
``libs/common/messages/schemas``; a superseded version stays there as ``<Name>.v<N>.avsc`` and stays readable. Times are UTC.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any, Final, get_args

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from libs.common.errors import CodecError
from libs.common.messages.headers import Headers
from libs.common.messages.labels import Labels

_MAGIC = b"\xc3\x01"


class Stream(StrEnum):
    """The kind of a blob's content, which determines its raw topic."""

    FLOW_LOGS = "flow_logs"
    APPLICATION_LOGS = "application_logs"
    PROXY_LOGS = "proxy_logs"


class BlobStatus(StrEnum):
    """The monitor's status of a blob."""

    OPEN = "open"
    CLOSED = "closed"


class CheckpointStatus(StrEnum):
    """The status of a blob generation in ingest."""

    OPEN = "open"  # more may come
    COMPLETE = "complete"  # closed and read completely
    INCOMPLETE = "incomplete"  # replaced, shrunk, deleted or unreadable before it was read completely


@dataclass(frozen=True, slots=True)
class BlobObserved:
    """A blob is new or has changed (ETag). Topic ``Ingestion.Blobs``, key blob id."""

    blob: str
    subscription: str
    environment: str
    stream: Stream
    etag: str
    size: int
    blob_type: str  # BlockBlob, AppendBlob
    last_modified: datetime
    creation_time: datetime | None
    observed_at: datetime
    # Bytes below this offset count as read (start policy start_fresh and from); None reads from the beginning.
    baseline_offset: int | None = None
    # Non-empty: read again from the beginning, once per id (start policy start_over).
    replay_id: str = ""
    labels: Labels = field(default_factory=dict)  # from the name and the configuration; see `libs.common.messages.labels`


@dataclass(frozen=True, slots=True)
class BlobsListed:
    """A listing of one prefix has ended, and its blobs were announced before. Key: alias/container/prefix.

    Written if something was announced, and periodically if nothing was.
    """

    account: str
    container: str
    prefix: str
    subscription: str
    environment: str
    listing_started_at: datetime  # taken before the first request
    listing_ended_at: datetime
    blob_count: int
    total_bytes: int
    selector: str = ""  # whose blobs these are; empty: the source has no selectors
    day: date | None = None  # that the names under the prefix carry, in layouts with days


@dataclass(frozen=True, slots=True)
class BlobClosed:
    """The blob was not written for the closing timeout. Emitted once, unless the blob reopens."""

    blob: str
    etag: str
    size: int
    last_modified: datetime
    closed_at: datetime
    timeout_seconds: int
    # As in `BlobObserved`, which the reader may have handled long ago without keeping any trace of it.
    stream: Stream | None = None
    baseline_offset: int | None = None
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BlobReopened:
    """A closed blob has changed; a `BlobObserved` follows."""

    blob: str
    etag: str
    size: int
    last_modified: datetime
    reopened_at: datetime


@dataclass(frozen=True, slots=True)
class BlobReleased:
    """An operator wants ingest to resume a blob that it gave up on, or to read a blob again. Fields as in `BlobState`.

    Topic ``Ingestion.Blobs``, key blob id.
    """

    blob: str
    stream: Stream
    status: BlobStatus
    etag: str
    size: int
    blob_type: str
    creation_time: datetime | None
    released_at: datetime
    baseline_offset: int | None = None
    replay_id: str = ""  # non-empty: read from the beginning, as with `BlobObserved`
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BlobForgotten:
    """A deleted blob was last written ``monitor.forget_days`` ago: everything about it can be forgotten.

    Topic ``Ingestion.Blobs``, key blob id.
    """

    blob: str
    forgotten_at: datetime


@dataclass(frozen=True, slots=True)
class BlobState:
    """What the monitor has seen of a blob. Topic ``Ingestion.BlobState``, compacted, key blob id."""

    blob: str
    subscription: str
    environment: str
    stream: Stream
    status: BlobStatus
    etag: str
    size: int
    blob_type: str
    last_modified: datetime
    creation_time: datetime | None
    first_observed_at: datetime
    last_observed_at: datetime
    baseline_offset: int | None = None
    replay_id: str = ""
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BlobCheckpoint:
    """How far a blob has been ingested. Topic ``Ingestion.Checkpoints``, compacted, key blob id.

    Offsets count the blob's own bytes, except those called decoded: they count the text of a compressed blob. Such a blob was
    read up to `read_offset`, and can be decoded again from `next_offset`, which is never inside a member.
    """

    blob: str
    generation: str
    status: CheckpointStatus
    next_offset: int  # the first unpublished byte; compressed: the start of the member that contains it, or of an earlier one
    ordinal: int  # of the next segment
    records: int  # records or lines published in this generation
    etag: str  # of the version that was read completely; empty while more of it remains
    size: int  # at the last read
    blocks: int  # committed blocks that begin below read_to
    digest: str  # of ids and sizes of the blocks below read_to; before version 3 also of the bytes before it
    creation_time: datetime | None
    updated_at: datetime
    replay_id: str = ""
    stream: Stream = Stream.FLOW_LOGS
    content: str = ""  # detected kind of content (services.ingest.reading.content.Content); empty while unknown
    skip_from: int | None = None  # start (compressed: decoded) of the over-long line or record that contains the next byte
    seen_etag: str = ""  # of the version read last, even while more of it remains
    before: str = ""  # number of bytes just before read_to that are known, and their digest
    checksum: int | None = None  # CRC-32 of the bytes from checksum_from to read_to
    checksum_from: int = 0
    unread: int | None = None  # incomplete records seen after the published ones; None: unknown
    crashes: int = (
        0  # consecutive attempts to continue from here that did not return; without a generation, nothing was read yet
    )
    tried_by: str = ""  # the process that made the last of these attempts, which may still return
    encoding: str = ""  # gzip or zstd; empty: not compressed
    read_offset: int | None = None  # the first byte that was not read yet; None: next_offset
    decoded_start: int = 0  # decoded offset at next_offset
    decoded_offset: int | None = None  # of the first unpublished byte; None: not compressed

    @property
    def read_to(self) -> int:
        """Offset of the first byte that was not read yet."""
        return self.next_offset if self.read_offset is None else self.read_offset


@dataclass(frozen=True, slots=True)
class BlobCompletion:
    """A range of a blob has been published. Topic ``Ingestion.Completions``, key blob id.

    Of a compressed blob, the range from `from_offset` to `to_offset` was read; the published lines are the decoded range.
    """

    blob: str
    generation: str
    status: CheckpointStatus
    from_offset: int
    to_offset: int
    segments: int
    records: int
    completed_at: datetime
    decoded_from: int | None = None  # None: not compressed
    decoded_to: int | None = None


@dataclass(frozen=True, slots=True)
class BlobQuarantined:
    """Segments of a blob generation are no longer parsed. Topic ``Ingestion.Quarantine``, compacted, key blob id.

    A tombstone means that it was released.
    """

    blob: str
    generation: str
    offset: int  # start of the segment at which it was quarantined
    records: int  # rows and dead letters counted
    rejected: int  # the dead letters among them
    quarantined_at: datetime


@dataclass(frozen=True, slots=True)
class SourceState:
    """What was recorded last of an HTTP source. Topic ``Recorder.State``, compacted, key name of the source.

    It is written together with the rows of the answer, so it says which answers have been recorded.
    """

    source: str
    run: str  # while this state is known, answers are numbered on; a new one begins a new run
    next_sequence: int  # of the next answer with rows
    asked_at: datetime  # when the source was asked for its last answer, recorded or refused
    etag: str = ""  # of the last recorded answer; empty: it had none
    last_modified: str = ""  # its header of that name
    answer_hash: str = ""  # SHA-256 of its bytes; empty: none was recorded yet


Event = (
    BlobObserved
    | BlobsListed
    | BlobClosed
    | BlobReopened
    | BlobReleased
    | BlobForgotten
    | BlobState
    | BlobCheckpoint
    | BlobCompletion
    | BlobQuarantined
    | SourceState
)

_TYPES: dict[str, type[Any]] = {t.__name__: t for t in get_args(Event)}
_ENUMS: dict[str, dict[str, type[StrEnum]]] = {
    "BlobObserved": {"stream": Stream},
    "BlobClosed": {"stream": Stream},
    "BlobReleased": {"stream": Stream, "status": BlobStatus},
    "BlobState": {"stream": Stream, "status": BlobStatus},
    "BlobCheckpoint": {"status": CheckpointStatus, "stream": Stream},
    "BlobCompletion": {"status": CheckpointStatus},
}


QUARANTINED: Final = ("quarantined", b"1")
"""Additional header of the checkpoints of quarantined blobs, so that they can be found without decoding all checkpoints."""


def event_headers(event: Event) -> Headers:
    """Return the headers of an event message, including its type, for filters that do not decode it."""
    return (("type", type(event).__name__.encode()), ("content-type", b"application/avro"))


def encode_event(event: Event) -> bytes:
    """Return `event` in Avro single-object encoding, with the newest schema of its type."""
    mark, schema = _newest(type(event).__name__)
    out = io.BytesIO()
    out.write(mark)
    # Not `asdict`: events are flat, and its deep copies cost three times as much as the encoding.
    fastavro.schemaless_writer(out, schema, {name: getattr(event, name) for name in event.__dataclass_fields__})
    return out.getvalue()


def decode_event(data: bytes) -> Event:
    """Decode any event of any known schema version.

    Raises:
        CodecError: the marker, the schema or the body is unknown or broken.
    """
    if data[:2] != _MAGIC:
        raise CodecError("not an event: no Avro single-object marker")
    writer = _writers().get(data[:10])
    if writer is None:
        raise CodecError(f"event with an unknown schema {data[2:10].hex()}: written by a newer version?")
    name, schema = writer
    values = _read(data, name, schema, _newest(name)[1])
    try:
        for key, enum in _ENUMS.get(name, {}).items():
            values[key] = None if values[key] is None else enum(values[key])
    except ValueError as error:
        raise CodecError(f"broken {name} event: {error}") from error
    event: Event = _TYPES[name](**values)
    return event


def read_fields(data: bytes, kind: type[Event]) -> dict[str, Any] | None:
    """Return the raw fields of an event of `kind`, times in microseconds since 1970, at a third of the cost; else None.

    Raises:
        CodecError: as from `decode_event`.
    """
    plain = _plain_writers(kind.__name__).get(data[:10])
    if plain is None:
        if data[:10] not in _writers():
            decode_event(data)  # raises what is wrong
        return None
    return _read(data, kind.__name__, *plain)


def _read(data: bytes, name: str, writer: Any, reader: Any) -> dict[str, Any]:
    try:
        fields: Any = fastavro.schemaless_reader(io.BytesIO(data[10:]), writer, reader)
    except Exception as error:  # fastavro raises many kinds of exceptions on broken bytes, such as IndexError and EOFError
        raise CodecError(f"broken {name} event: {error}") from error
    if not isinstance(fields, dict):
        raise CodecError(f"broken {name} event: not a record")
    return fields


@cache
def _plain_writers(name: str) -> dict[bytes, tuple[Any, Any]]:
    """Every schema version of an event by its mark, with the newest as reader schema if it differs; without logical types."""
    newest, _ = _newest(name)
    reader = _load_plain(f"{name}.avsc")
    versions = [file.name for file in _schema_files() if file.name.split(".")[0] == name]
    marks = {_load(version)[0]: version for version in versions}
    return {mark: (_load_plain(version), None if mark == newest else reader) for mark, version in marks.items()}


@cache
def _newest(name: str) -> tuple[bytes, Any]:
    return _load(f"{name}.avsc")


@cache
def _writers() -> dict[bytes, tuple[str, Any]]:
    """Every schema version by its 10-byte mark."""
    found = {}
    for file in _schema_files():
        mark, schema = _load(file.name)
        found[mark] = (file.name.split(".")[0], schema)
    return found


def _schema_files() -> list[Any]:
    return [file for file in files("libs.common.messages").joinpath("schemas").iterdir() if file.name.endswith(".avsc")]


@cache
def _load(file_name: str) -> tuple[bytes, Any]:
    raw = _raw(file_name)
    digest = fingerprint(to_parsing_canonical_form(raw), "CRC-64-AVRO")
    return _MAGIC + bytes.fromhex(digest), fastavro.parse_schema(raw)


def _load_plain(file_name: str) -> Any:
    return fastavro.parse_schema(_without_logical_types(_raw(file_name)))


def _raw(file_name: str) -> Any:
    return json.loads(files("libs.common.messages").joinpath("schemas", file_name).read_text())


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_logical_types(part) for part in schema]
    if isinstance(schema, dict):
        return {key: _without_logical_types(part) for key, part in schema.items() if key != "logicalType"}
    return schema
