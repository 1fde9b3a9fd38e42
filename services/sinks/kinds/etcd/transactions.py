"""Write keys in transactions: create those that are not there yet, or put the newest value.

A transaction that creates compares the version of each of its keys with 0, which means that the key does not exist. If none
exists, all are put; otherwise none is, and the response says which ones exist: a second transaction creates the others. So a
transaction may be repeated any number of times, also by two processes at once.

Nested transactions would need one round trip less, but some versions of etcd do not check permissions inside of them.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, compress
from typing import Any, Final, Self

import msgspec

from libs.common.errors import Retry
from libs.common.messages.dead_letters import ErrorCode
from services.sinks.kinds.etcd.gateway import Gateway, RequestTooLarge, decoded

_PATH: Final = "/v3/kv/txn"
_ATTEMPTS: Final = 4
_OVERHEAD: Final = 64  # bytes of a row in a request, besides key (three times) and value; generously
_KEY_TIMES: Final = 3

_COMPARE: Final = b'{"key":"%b","target":"VERSION","result":"EQUAL","version":"0"}'
_COUNT: Final = b'{"requestRange":{"key":"%b","countOnly":true}}'
_PUT: Final = b'{"requestPut":{"key":"%b","value":"%b"%b}}'
_NEVER: Final = b'{"compare":[{"key":"%b","target":"VERSION","result":"LESS","version":"0"}],"success":[%b],"failure":[%b]}'


@dataclass(frozen=True, slots=True)
class Entries:
    """Rows with their keys and values, both in base64."""

    rows: Sequence[int]
    keys: Sequence[bytes]
    values: Sequence[bytes]

    @classmethod
    def of(cls, rows: Sequence[int], keys: Sequence[bytes], values: Sequence[bytes]) -> Self:
        """Encode keys and values."""
        return cls(rows, [b2a_base64(key, newline=False) for key in keys], [b2a_base64(one, newline=False) for one in values])

    def __len__(self) -> int:
        return len(self.rows)

    def sizes(self) -> list[int]:
        """Return the size of each row in a request, in bytes, as the server counts it."""
        return [
            _OVERHEAD + (_KEY_TIMES * len(key) + len(value)) * 3 // 4 for key, value in zip(self.keys, self.values, strict=True)
        ]

    def part(self, start: int, stop: int) -> Entries:
        """Return consecutive rows."""
        return Entries(self.rows[start:stop], self.keys[start:stop], self.values[start:stop])

    def where(self, chosen: Sequence[bool]) -> Entries:
        """Return the chosen rows."""
        keys, values = (list(compress(column, chosen)) for column in (self.keys, self.values))
        return Entries(list(compress(self.rows, chosen)), keys, values)


@dataclass(slots=True)
class Written:
    """What became of rows."""

    written: int = 0
    already_there: int = 0
    refused: list[tuple[int, ErrorCode, str]] = field(default_factory=list)  # row, code, reason

    def add(self, other: Written) -> None:
        """Add what became of other rows."""
        self.written += other.written
        self.already_there += other.already_there
        self.refused += other.refused


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a transaction."""

    rows: int
    bytes: int


def cut(entries: Entries, limits: Limits) -> Iterator[Entries]:
    """Divide rows into transactions; one that is too large for any is alone."""
    ends = list(accumulate(entries.sizes(), initial=0))
    start = 0
    while start < len(entries):
        stop = start + 1
        while stop < len(entries) and stop - start < limits.rows and ends[stop + 1] - ends[start] <= limits.bytes:
            stop += 1
        yield entries.part(start, stop)
        start = stop


class _Answer(msgspec.Struct):
    succeeded: bool = False
    responses: list[dict[str, dict[str, Any]]] = []


class Transactions:
    """Writes entries, each call in one transaction unless that fails. Thread-safe."""

    def __init__(self, gateway: Gateway, limits: Limits, *, keeps_newest: bool) -> None:
        self._gateway = gateway
        self._limits = limits
        self._keeps_newest = keeps_newest

    def probe(self, key: bytes) -> None:
        """Check that we may write and read below a key, by a transaction that never does. Raises as `Gateway.ask`."""
        name = b2a_base64(key, newline=False)
        self._gateway.ask(_PATH, _NEVER % (name, _PUT % (name, b"", b""), _COUNT % name))

    def write(self, entries: Entries, lease: int) -> Written:
        """Write rows with distinct keys; `lease` 0 lets them live for ever.

        Raises:
            Retry, ConfigError: as `Gateway.ask`.
            LeaseGone: if the lease has ended.
        """
        if len(entries) == 1 and (size := entries.sizes()[0]) > self._limits.bytes:
            reason = f"the row needs about {size} bytes in a request, more than request_bytes ({self._limits.bytes})"
            return Written(refused=[(entries.rows[0], ErrorCode.TOO_LARGE, reason)])
        try:
            return self._put(entries, lease) if self._keeps_newest else self._create(entries, lease)
        except RequestTooLarge:
            return self._halved(entries, lease)

    def _halved(self, entries: Entries, lease: int) -> Written:
        if len(entries) == 1:
            reason = "the server does not take a request of this size (--max-request-bytes)"
            return Written(refused=[(entries.rows[0], ErrorCode.TOO_LARGE, reason)])
        middle = len(entries) // 2
        written = self.write(entries.part(0, middle), lease)
        written.add(self.write(entries.part(middle, len(entries)), lease))
        return written

    def _create(self, entries: Entries, lease: int) -> Written:
        done = Written()
        for _ in range(_ATTEMPTS):
            answer = self._ask(entries, _creating(entries, lease))
            if answer.succeeded:
                done.written += len(entries)
                return done
            exists = [_count(response) > 0 for response in answer.responses]
            done.already_there += sum(exists)
            entries = entries.where([not one for one in exists])
            if not len(entries):
                return done
        raise Retry("etcd: other processes keep creating the same keys", kind="conflict")

    def _put(self, entries: Entries, lease: int) -> Written:
        answer = self._ask(entries, _putting(entries, lease))
        same = sum(
            _previous(response) == value.decode() for response, value in zip(answer.responses, entries.values, strict=True)
        )
        return Written(len(entries) - same, same)

    def _ask(self, entries: Entries, body: bytes) -> _Answer:
        answer = decoded(self._gateway.ask(_PATH, body), _Answer)
        if len(answer.responses) != len(entries):
            raise Retry("etcd: the response is not about the transaction", kind="no_answer_of_etcd")
        return answer


def _creating(entries: Entries, lease: int) -> bytes:
    compare = b",".join(_COMPARE % key for key in entries.keys)
    count = b",".join(_COUNT % key for key in entries.keys)
    return b'{"compare":[%b],"success":[%b],"failure":[%b]}' % (compare, _puts(entries, _option(lease)), count)


def _putting(entries: Entries, lease: int) -> bytes:
    return b'{"success":[%b]}' % _puts(entries, b',"prevKv":true' + _option(lease))


def _puts(entries: Entries, options: bytes) -> bytes:
    return b",".join(_PUT % (key, value, options) for key, value in zip(entries.keys, entries.values, strict=True))


def _option(lease: int) -> bytes:
    return b',"lease":"%d"' % lease if lease else b""


def _count(response: dict[str, dict[str, Any]]) -> int:
    """Return the count in the response to a range request."""
    return sum(int(inner.get("count", 0)) for inner in response.values())


def _previous(response: dict[str, dict[str, Any]]) -> str | None:
    """Return the previous value in the response to a put, in base64; None if there was none."""
    inner = next(iter(response.values()), {})
    before = inner.get("prev_kv") or inner.get("prevKv") or {}
    return str(before["value"]) if "value" in before else None
