"""Write documents with given ids in bulk: split them by size, retry where possible, and report those that cannot be written.

Every operation is a ``create`` with an id, so anything may be sent again: documents written before a lost response return 409.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from isal import isal_zlib

from libs.common.errors import CodecError, ConfigError, Retry
from libs.common.http.client import Answer, HttpClient, Request
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.formats.json import text_bytes
from libs.common.rows.row_text import CodedTexts, TextColumn
from services.sinks.kinds.elasticsearch.bulk_reply import (
    FILTER_PATH,
    DocumentResult,
    ItemResult,
    denies_rights,
    describe_failure,
    read_reply,
)

_HEADERS: Final = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
_PATH: Final = f"/_bulk?filter_path={FILTER_PATH}"
_FIRST_PAUSE: Final = 0.1
_GZIP: Final = 31  # 32 KB window, gzip header

_Rows = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class RefusedDocument:
    """A document that the cluster refuses."""

    row: int
    code: ErrorCode
    reason: str
    kind: str = ""  # the error's type, from a bounded set


@dataclass(slots=True)
class Delivered:
    """The result of writing documents; those not listed are written.

    `refused` lists those that are at fault themselves. For those in `unclear`, it is not known who is: if others were accepted,
    these are.
    """

    written: int = 0
    already_there: int = 0
    refused: list[RefusedDocument] = field(default_factory=list)
    unclear: list[RefusedDocument] = field(default_factory=list)

    def add(self, other: Delivered) -> None:
        """Add the results of other documents."""
        self.written += other.written
        self.already_there += other.already_there
        self.refused += other.refused
        self.unclear += other.unclear


@dataclass(frozen=True, slots=True)
class BulkLimits:
    """The maximum size of a request before compression, and how often single documents are sent again."""

    body_bytes: int
    attempts: int = 4


def operation_text(index: pa.DictionaryArray, ids: Sequence[TextColumn], documents: Sequence[TextColumn]) -> list[TextColumn]:
    """Return the text columns of one ``_bulk`` operation per document: action line and document line."""
    names = CodedTexts(index.dictionary.to_pylist(), index.indices.to_numpy().astype(np.uint32))
    return ['{"create":{"_index":"', names, '","_id":"', *ids, '"}}\n', *documents, "\n"]


class BulkWriter:
    """Writes operations to a cluster. Thread-safe."""

    def __init__(self, client: HttpClient, limits: BulkLimits, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._limits = limits
        self._sleep = sleep

    def write(self, operations: pa.ChunkedArray) -> Delivered:
        """Write all operations (strings); rows in the result count from 0.

        Raises:
            Retry: if the cluster cannot accept all of them now.
            ConfigError: if it does not let us write at all.
        """
        delivered = Delivered()
        for rows in _cut(operations, self._limits.body_bytes):
            delivered.add(self._write(operations, rows))
        return delivered

    def _write(self, operations: pa.ChunkedArray, rows: _Rows) -> Delivered:
        delivered = Delivered()
        pause = _FIRST_PAUSE
        for attempt in range(self._limits.attempts):
            answer = self._client.send(Request("POST", _PATH, _body(operations, rows), _HEADERS))
            if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                delivered.add(self._halved(operations, rows))
                return delivered
            results = _results(answer, len(rows))
            _count(results, rows, delivered)
            again = [at for at, result in enumerate(results) if result.verdict is DocumentResult.AGAIN]
            if not again:
                return delivered
            rows = rows[again]
            if attempt + 1 < self._limits.attempts:
                self._sleep(pause)
                pause *= 2
        first = results[again[0]]
        raise Retry(f"{len(rows)} documents not accepted: {first.reason}", after=_FIRST_PAUSE * 10, kind=first.kind)

    def _halved(self, operations: pa.ChunkedArray, rows: _Rows) -> Delivered:
        """Write a body that was too large in two halves; a single document that is too large is refused, unless all are."""
        if len(rows) == 1:
            reason = "the cluster, or a proxy in front of it, does not accept requests of this size"
            return Delivered(unclear=[RefusedDocument(int(rows[0]), ErrorCode.TOO_LARGE, reason, "status_413")])
        middle = len(rows) // 2
        delivered = self._write(operations, rows[:middle])
        delivered.add(self._write(operations, rows[middle:]))
        return delivered


def _cut(operations: pa.ChunkedArray, limit: int) -> Iterator[_Rows]:
    """Yield runs of rows whose operations fit into a request body; a larger one is sent alone."""
    ends = np.cumsum(pc.binary_length(operations).to_numpy().astype(np.int64))
    start, sent = 0, 0
    while start < len(ends):
        stop = max(start + 1, int(np.searchsorted(ends, sent + limit, side="right")))
        yield np.arange(start, stop)
        start, sent = stop, int(ends[stop - 1])


def _body(operations: pa.ChunkedArray, rows: _Rows) -> bytes:
    consecutive = int(rows[-1]) - int(rows[0]) + 1 == len(rows)
    chosen = operations.slice(int(rows[0]), len(rows)) if consecutive else operations.take(pa.array(rows))
    stream = isal_zlib.compressobj(1, wbits=_GZIP)
    return b"".join([*(stream.compress(text_bytes(chunk).data) for chunk in chosen.chunks), stream.flush()])


def _results(answer: Answer, documents: int) -> list[ItemResult]:
    status = answer.status
    if status == HTTPStatus.OK:
        try:
            return read_reply(answer.body, documents)
        except CodecError as error:
            raise Retry(str(error), kind="no_answer_of_bulk") from error
    if status == HTTPStatus.UNAUTHORIZED or (status == HTTPStatus.FORBIDDEN and denies_rights(answer.body)):
        raise ConfigError(f"the cluster answered {status} to _bulk: it denies the sign-in or the right to write")
    # Whatever it is, no document is at fault: a block, a restart, a gateway without a backend, a wrong address.
    said = describe_failure(answer.body) or "not a response of Elasticsearch or OpenSearch; is the URL correct?"
    raise Retry(f"the cluster answered {status} to _bulk: {said}", after=answer.retry_after or 1.0, kind=f"status_{status}")


def _count(results: list[ItemResult], rows: _Rows, delivered: Delivered) -> None:
    for row, result in zip(rows.tolist(), results, strict=True):
        match result.verdict:
            case DocumentResult.WRITTEN:
                delivered.written += 1
            case DocumentResult.ALREADY_THERE:
                delivered.already_there += 1
            case DocumentResult.REFUSED:
                delivered.refused.append(RefusedDocument(row, result.code, result.reason, result.kind))
            case DocumentResult.UNCLEAR:
                delivered.unclear.append(RefusedDocument(row, result.code, result.reason, result.kind))
            case DocumentResult.AGAIN:
                pass
