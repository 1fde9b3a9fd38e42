"""Leases, by which keys expire: many keys share one, and keys that are written later get another.

When a lease ends, etcd deletes all its keys in one step, during which it does nothing else; so a lease takes a limited number
of keys, for a limited time. It lives for that time in addition to the keys' own: no key expires early.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

import msgspec

from services.sinks.kinds.etcd.gateway import Gateway, decoded

_MOST_KEYS: Final = 10_000
_SHORTEST, _LONGEST = 10, 3_600  # seconds for which a lease takes keys
_PARTS: Final = 100  # of the time for which keys live


class _Granted(msgspec.Struct):
    id: str = msgspec.field(name="ID")  # the gateway writes long integers as text


class Leases:
    """The lease of new keys. Only the thread that writes asks for it; others may report that it is gone."""

    def __init__(self, gateway: Gateway, ttl_seconds: int, clock: Callable[[], float]) -> None:
        self._gateway = gateway
        self._ttl = ttl_seconds
        self._clock = clock
        self._takes_seconds = min(_LONGEST, max(_SHORTEST, ttl_seconds // _PARTS))
        self._lease = 0
        self._keys = 0
        self._until = 0.0

    def take(self, keys: int) -> int:
        """Return the lease for so many keys; 0: none, they do not expire. Raises as `Gateway.ask`."""
        if not self._ttl:
            return 0
        if not self._lease or self._clock() >= self._until or self._keys + keys > _MOST_KEYS:
            self._grant()
        self._keys += keys
        return self._lease

    def lost(self, lease: int) -> None:
        """Take note that a lease has ended early: it was revoked, or the cluster restored from a backup."""
        if self._lease == lease:
            self._lease = 0

    def _grant(self) -> None:
        began = self._clock()
        body = json.dumps({"TTL": str(self._ttl + self._takes_seconds), "ID": "0"}).encode()
        answer = self._gateway.ask("/v3/lease/grant", body)
        self._lease = int(decoded(answer, _Granted).id)
        self._keys, self._until = 0, began + self._takes_seconds
