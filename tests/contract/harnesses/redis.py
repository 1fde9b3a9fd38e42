"""The redis sink's destination: streams under a prefix of their own in a real Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from libs.local.redis import LocalRedis
from tests.contract.harness import Content, Harness, Row
from tests.documents import flat_document
from tests.flows import identity

MARKS = pytest.mark.redis


class RedisHarness(Harness):
    """Streams."""

    kind = "redis"

    def __init__(self, server: LocalRedis) -> None:
        self.server = server
        self.prefix = f"contract:{uuid4().hex}"

    def options(self) -> dict[str, Any]:
        """Give up soon while the server is away."""
        return {"url": self.server.url, "prefix": self.prefix, "timeout_seconds": 5}

    def read(self) -> Content:
        """Read all entries; the rows of one blob stand in order, each once."""
        content: Content = {}
        last: dict[Any, tuple[int, int]] = {}
        for values in self._entries():
            *generation, offset, index = identity(values)
            assert last.get(tuple(generation), (-1, -1)) < (offset, index)
            last[tuple(generation)] = offset, index
            content[identity(values)] = values
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, flat."""
        return {identity(row): flat_document(row) for row in rows}

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Kill the server."""
        self.server.kill()
        try:
            yield
        finally:
            self.server.start()

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
        with Redis.from_url(self.server.url) as redis:
            for stream in redis.scan_iter(f"{self.prefix}:*", _type="stream"):
                assert redis.ttl(stream) > 0
                for _, entry in redis.xrange(stream):
                    yield json.loads(entry[b"flow"])


def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    """Give an unused prefix."""
    return RedisHarness(request.getfixturevalue("redis_server"))
