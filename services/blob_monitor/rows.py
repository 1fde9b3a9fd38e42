"""Memory of a blob that is not open, in 32 bytes: enough to notice that it has changed, and to continue from there.

The ETag is kept as a 64-bit hash, times in whole seconds.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import xxhash

from libs.common.messages.events import BlobStatus
from services.blob_monitor.evaluate import Known

ROW: Final = np.dtype(
    [
        ("etag", ">u8"),
        ("baseline", "<i8"),
        ("modified", "<u4"),
        ("first_seen", "<u4"),
        ("round", "<u4"),
        ("replay", "<u2"),
        ("closed", "<u2"),
    ]
)
_FORM = struct.Struct("<8sqIIIHH")
_ROUND = slice(24, 28)
_REPLAY = slice(28, 30)
_NO_BASELINE: Final = -1
_LAST_SECOND: Final = 2**32 - 1
_LAST_REPLAY: Final = 2**16 - 1
MICROSECONDS: Final = 1_000_000


class RowForm:
    """Converts `Known` to rows and back. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._replays = [""]
        self._numbers = {"": 0}

    def pack(self, known: Known) -> bytes:
        """Return `known` as a row."""
        times = seconds_of(known.modified), seconds_of(known.first_seen)
        return self._pack(known.etag, known.baseline, times, (known.replay_id, known.closed, known.round))

    def pack_fields(self, fields: Mapping[str, Any], listing_round: int) -> bytes:
        """Return the fields of a `BlobState`, times in microseconds, as a row."""
        times = fields["last_modified"] // MICROSECONDS, fields["first_observed_at"] // MICROSECONDS
        closed = fields["status"] == BlobStatus.CLOSED
        return self._pack(fields["etag"], fields["baseline_offset"], times, (fields["replay_id"], closed, listing_round))

    def unpack(self, row: bytes, etag: str) -> Known:
        """Return the contents of a row; the ETag is `etag`, as listed, if the row has it, otherwise one that matches none."""
        hashed, baseline, modified, first_seen, listing_round, replay, closed = _FORM.unpack(row)
        return Known(
            etag=etag if _hash(etag) == hashed else "",
            size=0,  # not kept: only the size at the next change matters
            modified=datetime.fromtimestamp(modified, UTC),
            first_seen=datetime.fromtimestamp(first_seen, UTC),
            closed=bool(closed),
            baseline=None if baseline == _NO_BASELINE else baseline,
            replay_id=self._replays[replay],
            round=listing_round,
        )

    def replay_number(self, replay_id: str) -> int:
        """Return the number of a replay id; ids beyond the first 65,535 share the last number."""
        number = self._numbers.get(replay_id)
        if number is None:
            with self._lock:
                if len(self._replays) <= _LAST_REPLAY and replay_id not in self._numbers:
                    self._replays.append(replay_id)
                    self._numbers[replay_id] = len(self._replays) - 1
                number = self._numbers.get(replay_id, _LAST_REPLAY)
        return number

    def _pack(self, etag: str, baseline: int | None, times: tuple[int, int], rest: tuple[str, bool, int]) -> bytes:
        replay_id, closed, listing_round = rest
        modified, first_seen = times
        if not (0 <= modified <= _LAST_SECOND and 0 <= first_seen <= _LAST_SECOND):
            modified, first_seen = (min(max(time, 0), _LAST_SECOND) for time in times)
        number = self.replay_number(replay_id)
        start = _NO_BASELINE if baseline is None else baseline
        return _FORM.pack(_hash(etag), start, modified, first_seen, listing_round, number, closed)


def is_same(row: bytes, etag: str) -> bool:
    """Return whether a row holds the version named by `etag`."""
    return row[:8] == _hash(etag)


def round_of(row: bytes) -> int:
    """Return the number of the full listing that last saw the blob."""
    return int.from_bytes(row[_ROUND], "little")


def replay_of(row: bytes) -> int:
    """Return the number of the replay id under which the blob was last announced."""
    return int.from_bytes(row[_REPLAY], "little")


def with_round(row: bytes, listing_round: int) -> bytes:
    """Return the row, marked as seen by the full listing `listing_round`."""
    return row[: _ROUND.start] + listing_round.to_bytes(4, "little") + row[_ROUND.stop :]


def seconds_of(time: datetime) -> int:
    """Return whole seconds since 1970, rounded down."""
    return int(time.timestamp() // 1)


def _hash(etag: str) -> bytes:
    return xxhash.xxh3_64_digest(etag.encode())
