"""How far each request has come: the current view of the compacted topic `Collection.State`.

One record a request, under the request's id: how calls have ended, and where the others are. It is written in the same
transaction as the answers. Of requests that have ended, memory holds the hash of the id only, packed; it is what recognises
them when they are repeated, for as long as the topic keeps their record, as declared; after that, memory forgets it, too.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Collection
from typing import Final, Protocol

import msgspec
import numpy as np
import structlog

from libs.common.azure.arm.pages import ListCursor
from libs.common.errors import CodecError
from libs.common.kafka.records import Inbound
from libs.common.packed import PackedTable

log = structlog.get_logger(__name__)

_VERSION: Final = 1
REMEMBERED_HOURS: Final = 30 * 24
"""For how long ids are known at least: as long as `Collection.State` keeps records, as declared."""

_ROW: Final = np.dtype([("partition", "<u4"), ("hour", "<u4")])
_FORM: Final = struct.Struct("<II")  # of a row
_PARTITION: Final = struct.Struct("<I")
_HOUR: Final = 3_600
_LONGEST_MESSAGE: Final = 500  # of a problem; the row that says it all has the whole message


class CallProblem(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Why a call has no answers, or not all of them: one element of the column `errors`."""

    code: str
    message: str
    status: int | None = None
    request_id: str | None = None


class CallOutcome(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How a call ended. `status` is that of its last row; empty if a collector ended it that did not write it here yet."""

    status: str = ""
    pages: int = 0
    received: int = 0
    expected: int | None = None
    problem: CallProblem | None = None

    def shortened(self) -> CallOutcome:
        """Return what a record has room for a thousand times."""
        if self.problem is None:
            return self
        problem = msgspec.structs.replace(self.problem, message=self.problem.message[:_LONGEST_MESSAGE])
        return msgspec.structs.replace(self, problem=problem)


class CallPlace(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where a call is.

    Attributes:
        waited: seconds so far.
        since: when Azure began not to answer it, in seconds since the epoch; 0 if it does.
    """

    cursor: ListCursor = ListCursor()
    waited: float = 0.0
    since: float = 0.0


class RequestProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of a record, by number of the call: what has ended, and how; the places of calls that have begun.

    Attributes:
        defaults: values with which placeholders were filled that the request leaves open, so that it goes on with the same.
    """

    calls: int
    ended: tuple[int, ...] = ()
    places: dict[int, CallPlace] = {}
    outcomes: dict[int, CallOutcome] = {}
    version: int = _VERSION
    defaults: dict[str, str] = {}

    @property
    def is_over(self) -> bool:
        """Whether all calls have ended."""
        return len(self.ended) >= self.calls


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(RequestProgress)


def encode_progress(progress: RequestProgress) -> bytes:
    """Return the value of a record."""
    return _encoder.encode(progress)


def decode_progress(data: bytes) -> RequestProgress:
    """Return what `encode_progress` encoded. Raises `CodecError`."""
    try:
        progress = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise CodecError(f"not the progress of a request: {error}") from error
    if progress.version != _VERSION:
        raise CodecError(f"the progress of a request has version {progress.version}; upgrade this collector")
    return progress


class ProgressTable(Protocol):
    """Followed partitions of a compacted topic; see `libs.common.kafka.readers.compacted.CompactedTable`."""

    def open(self, partitions: Collection[int]) -> None:
        """Start at the beginning."""

    def catch_up(self, timeout: float, between: Callable[[], None]) -> None:
        """Apply everything up to the current end; exceptions of `between` propagate."""

    def close(self) -> None:
        """Disconnect."""


MakeProgressTable = Callable[[Callable[[Inbound], None]], ProgressTable]


class KnownRequests:
    """The progress of requests, by partition and id. `patience`: seconds without a record after which Kafka counts as down."""

    def __init__(self, make_table: MakeProgressTable, patience: float, now: Callable[[], float] = time.time) -> None:
        self._make_table = make_table
        self._patience = patience
        self._over = PackedTable(_ROW)
        self._now = now
        self._swept = int(now()) // _HOUR
        self._open: dict[int, dict[bytes, bytes]] = {}

    def __len__(self) -> int:
        return len(self._over) + sum(map(len, self._open.values()))

    def load(self, partitions: Collection[int], keep_alive: Callable[[], None]) -> None:
        """Read the progress of all requests of these partitions. Raises `ServerUnreachable`, and what `keep_alive` raises."""
        self.forget(partitions)
        if not partitions:
            return
        table = self._make_table(self._apply)
        try:
            table.open(partitions)
            table.catch_up(self._patience, keep_alive)
        except BaseException:
            self.forget(partitions)
            raise
        finally:
            table.close()

    def forget(self, partitions: Collection[int]) -> None:
        """Forget these partitions."""
        for number in partitions:
            self._open.pop(number, None)
        self._over.keep(~np.isin(self._over.rows()["partition"], list(partitions)))

    def get(self, partition: int, key: bytes) -> RequestProgress | None:
        """Return how far a request has come; None if it is new. Raises `CodecError`."""
        value = self._open.get(partition, {}).get(key)
        if value is not None:
            return decode_progress(value)
        return RequestProgress(0) if self.has(partition, key) else None

    def has(self, partition: int, key: bytes) -> bool:
        """Return whether a request is known."""
        return key in self._open.get(partition, {}) or self._over.get(_name(partition, key)) is not None

    def end(self, partition: int, key: bytes) -> None:
        """Note that a request is over, before that is committed: it may be repeated at once."""
        hour = int(self._now()) // _HOUR
        self._end(partition, key, hour)
        if hour != self._swept:
            self._swept = hour
            self._over.keep(self._over.rows()["hour"] >= max(0, hour - REMEMBERED_HOURS))

    def _end(self, partition: int, key: bytes, hour: int) -> None:
        self._open.get(partition, {}).pop(key, None)
        self._over.put(_name(partition, key), _FORM.pack(partition, max(0, hour)))

    def _apply(self, record: Inbound) -> None:
        partition, key = record.partition, record.key
        if key is None:
            return
        if record.value is None:
            self._open.get(partition, {}).pop(key, None)
            self._over.remove(_name(partition, key))
        elif _is_over(record.value):
            self._end(partition, key, record.timestamp_ms // (1_000 * _HOUR))
        else:
            self._open.setdefault(partition, {})[key] = record.value


def _name(partition: int, key: bytes) -> bytes:
    return _PARTITION.pack(partition) + key


def _is_over(value: bytes) -> bool:
    try:
        return decode_progress(value).is_over
    except CodecError:
        return False  # said when the request comes
