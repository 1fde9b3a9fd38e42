"""The redis sink's destination: streams, keys or channels under a prefix of their own in a real Redis."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from libs.common.rows.types.flows import FLOWS
from libs.local.redis import LocalRedis
from tests.contract.harness import Benchmark, Case, Content, Harness, Row, killed
from tests.contract.peers import Options, one_by_one, some_at_a_time
from tests.row_samples import document, position_of

MODES = ("streams", "keys", "pubsub")
WITHOUT_TLS = {"url": "redis://cache:6379", "password": "p"}
MARKS = pytest.mark.redis
_SECONDS = 30.0


class RedisHarness(Harness):
    """Streams, whose entries expire, or keys, which do not."""

    @property
    def is_ordered(self) -> bool:
        """Entries of a stream are in order."""
        return self.case.mode == "streams"

    def __init__(self, case: Case, server: LocalRedis) -> None:
        super().__init__(case)
        self.server = server
        self.prefix = f"contract:{uuid4().hex}"

    def options(self) -> dict[str, Any]:
        """Give up soon while the server is away."""
        kept = {"ttl_seconds": 0} if self.case.mode == "keys" else {}
        return {"url": self.server.url, "prefix": self.prefix, "timeout_seconds": 5, "mode": self.case.mode, **kept}

    def read(self) -> Content:
        """Read everything; in a stream the rows of one source stand in order, each once."""
        content: Content = {}
        last: dict[Any, tuple[int, int]] = {}
        for values in self._entries() if self.case.mode == "streams" else self._keys():
            position = position_of(self.case.row_type, values)
            *generation, offset, index = position
            if self.case.mode == "streams":
                assert last.get(tuple(generation), (-1, -1)) < (offset, index)
            last[tuple(generation)] = offset, index
            content[position] = values
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, flat."""
        return {position_of(self.case.row_type, row): document(self.case.row_type, row) for row in rows}

    def outage(self) -> AbstractContextManager[None]:
        """Kill the server."""
        return killed(self.server)

    @contextmanager
    def refusal(self) -> Iterator[None]:
        """Leave the server no memory, so that it takes no command that writes."""
        with Redis.from_url(self.server.url) as redis:
            redis.config_set("maxmemory", 1)
            try:
                yield
            finally:
                redis.config_set("maxmemory", 0)

    def _entries(self) -> Iterator[dict[str, Any]]:
        name = b"flow" if self.case.row_type is FLOWS else b"row"
        with Redis.from_url(self.server.url) as redis:
            for stream in redis.scan_iter(f"{self.prefix}:*", _type="stream"):
                assert redis.ttl(stream) > 0
                for _, entry in redis.xrange(stream):
                    assert list(entry) == [name]
                    yield json.loads(entry[name])

    def _keys(self) -> Iterator[dict[str, Any]]:
        with Redis.from_url(self.server.url) as redis:
            for key in set(redis.scan_iter(f"{self.prefix}:*")):
                assert redis.ttl(key) == -1
                yield json.loads(redis.get(key) or b"")


class PubSubHarness(Harness):
    """Messages, which a subscriber of the harness keeps."""

    def __init__(self, case: Case, server: LocalRedis) -> None:
        super().__init__(case)
        self.server = server
        self.prefix = f"contract:{uuid4().hex}"
        self._content: Content = {}
        self._client = Redis.from_url(server.url, socket_timeout=_SECONDS)
        self._subscribe()

    def options(self) -> dict[str, Any]:
        """Give up soon while the server is away, and let each direction of flows have its channel."""
        channel = f"{self.prefix}:{self._channel('{direction}')}"
        return {"url": self.server.url, "mode": "pubsub", "channel": channel, "timeout_seconds": 5}

    def read(self) -> Content:
        """Return what came, once everything has that was published."""
        self._catch_up()
        return self._content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, flat, with its channel."""
        row_type = self.case.row_type
        return {
            position_of(row_type, one): (f"{self.prefix}:{self._channel(one.get('direction'))}", document(row_type, one))
            for one in rows
        }

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Kill the server when the subscriber has all, and subscribe again before anything is published."""
        self._catch_up()
        with killed(self.server):
            yield
        self._subscribe()

    def close(self) -> None:
        """Say goodbye."""
        self._messages.close()
        self._client.close()

    def _subscribe(self) -> None:
        self._messages: Any = self._client.pubsub()  # type: ignore[no-untyped-call]
        self._messages.psubscribe(f"{self.prefix}:*")
        assert self._messages.get_message(timeout=_SECONDS) is not None, "no answer to a subscription"

    def _catch_up(self) -> None:
        """Publish a message behind all others and read until it has come."""
        mark = uuid4().hex.encode()
        with Redis.from_url(self.server.url) as redis:
            redis.publish(f"{self.prefix}:mark", mark)
        while True:
            message = self._messages.get_message(ignore_subscribe_messages=True, timeout=_SECONDS)
            assert message is not None, "a message did not come in time"
            if message["data"] == mark:
                return
            values = json.loads(message["data"])
            kept = message["channel"].decode(), values
            assert self._content.setdefault(position_of(self.case.row_type, values), kept) == kept

    def _channel(self, direction: Any) -> Any:
        return direction if self.case.row_type is FLOWS else "all"


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give an unused prefix."""
    server = request.getfixturevalue("redis_server")
    if case.mode != "pubsub":
        return RedisHarness(case, server)
    made = PubSubHarness(case, server)
    request.addfinalizer(made.close)
    return made


def _add(options: Options, rows: Iterable[bytes]) -> int:
    added = 0
    with Redis.from_url(options["url"]) as redis:
        for some in some_at_a_time(rows, 1_000):
            pipeline = redis.pipeline(transaction=False)
            for row in some:
                pipeline.xadd(f"{options['prefix']}:peer", {"flow": row})
            added += len(pipeline.execute())
    return added


def _count(server: LocalRedis, options: Options) -> int:
    with Redis.from_url(server.url) as redis:
        return sum(int(redis.xlen(key)) for key in redis.scan_iter(f"{options['prefix']}:*", _type="stream"))


BENCHMARK = Benchmark(
    "commands answered, offsets committed",
    own="prefix",
    server=LocalRedis,
    options=lambda server: {"url": server.url},
    count=_count,
    peers=one_by_one("pipeline of XADD", _add),
)
