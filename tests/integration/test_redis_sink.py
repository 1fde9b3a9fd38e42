"""What the redis sink does beyond the sink contract, on a real Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.local.redis import LocalRedis
from services.sinks.contract import FlowPart, Outcome
from services.sinks.redis import RedisSettings, RedisSink
from tests.documents import document_id, flat_document
from tests.flows import Spot, row, rows, table

pytestmark = pytest.mark.redis


@pytest.fixture
def client(redis_server: LocalRedis) -> Iterator[Redis]:
    """Look into the server."""
    with Redis.from_url(redis_server.url) as found:
        yield found


@pytest.fixture
def prefix() -> str:
    """Give an unused prefix."""
    return f"test:{uuid4().hex}"


@contextmanager
def sink_of(server: LocalRedis, prefix: str, **options: Any) -> Iterator[RedisSink]:
    """Open a sink."""
    sink = RedisSink(RedisSettings(url=server.url, prefix=prefix, **options))
    sink.open()
    yield sink
    sink.close()


def test_keys_hold_each_flow_once_and_expire(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """In keys mode each row is a key of its identity with a life time; a repeat changes nothing."""
    content = rows()
    part = FlowPart(0, table(content))
    with sink_of(redis_server, prefix, mode="keys", ttl_seconds=500) as sink:
        assert sink.write([part]) == Outcome(len(content))
        assert sink.write([part]) == Outcome(0, len(content))
    found = {key.decode(): json.loads(client.get(key) or b"") for key in client.scan_iter(f"{prefix}:*")}
    assert found == {f"{prefix}:{document_id(values)}": flat_document(values) for values in content}
    assert all(0 < client.ttl(key) <= 500 for key in found)


def test_positions_are_compared_as_two_numbers(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """Offsets beyond 32 bits and indexes of two digits are in the order of numbers, not of text."""
    places = [(9, 9), (9, 10), (10, 0), (2**33, 1), (2**52, 0), (2**52, 1)]
    content = [row(Spot(0, 0, 0), record_offset=offset, tuple_index=index) for offset, index in places]
    with sink_of(redis_server, prefix) as sink:
        for at in range(len(content)):
            assert sink.write([FlowPart(0, table(content[: at + 1]))]) == Outcome(1, at)
    found = client.xrange(f"{prefix}:{{0}}") or ()
    entries = [json.loads(entry[b"flow"]) for _, entry in found if entry]
    assert [(entry["record_offset"], entry["tuple_index"]) for entry in entries] == places


def test_streams_are_trimmed_and_positions_outlive_them(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """A stream keeps about `max_entries`; rows that were trimmed do not come back with a replay."""
    content = rows(blobs=2, records=30, tuples=50)
    part = FlowPart(0, table(content))
    with sink_of(redis_server, prefix, max_entries=100, remember_days=2) as sink:
        assert sink.write([part]) == Outcome(3_000)
        assert 100 <= client.xlen(f"{prefix}:{{0}}") < 400
        assert sink.write([part]) == Outcome(0, 3_000)
    positions = list(client.scan_iter(f"{prefix}:{{0}}:*"))
    assert len(positions) == 2
    assert all(86_400 < client.ttl(key) <= 2 * 86_400 for key in positions)


def test_a_server_that_forgot_the_script_gets_it_again(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """Flushing the script cache, as a restart does, is not noticed."""
    part = FlowPart(0, table(rows()))
    with sink_of(redis_server, prefix) as sink:
        sink.write([part])
        client.script_flush()
        assert sink.write([part]) == Outcome(0, part.flows.num_rows)


@pytest.mark.parametrize("mode", ["streams", "keys"])
def test_a_full_server_is_a_retry(redis_server: LocalRedis, client: Redis, prefix: str, mode: str) -> None:
    """When Redis is out of memory the write is a Retry that says so, and goes through once there is room."""
    part = FlowPart(0, table(rows()))
    with sink_of(redis_server, prefix, mode=mode) as sink:
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises(Retry, match="OutOfMemory"):
                sink.write([part])
        finally:
            client.config_set("maxmemory", "0")
        assert sink.write([part]) == Outcome(part.flows.num_rows)


def test_a_read_only_server_is_a_retry(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """A server that has become a replica takes nothing: the write waits for the failover."""
    part = FlowPart(0, table(rows()))
    with sink_of(redis_server, prefix) as sink:
        client.replicaof("127.0.0.1", 1)
        try:
            with pytest.raises(Retry, match="ReadOnly"):
                sink.write([part])
        finally:
            client.replicaof("NO", "ONE")
        assert sink.write([part]) == Outcome(part.flows.num_rows)


def test_a_foreign_key_is_the_operators_fault(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """A key of another type under the prefix stops the sink with advice."""
    client.set(f"{prefix}:{{0}}", "x")
    with sink_of(redis_server, prefix) as sink, pytest.raises(ConfigError, match="prefix of its own"):
        sink.write([FlowPart(0, table(rows()))])


def test_wrong_password_and_address_are_said_at_the_start(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """A password that is missing or wrong, and an address where nobody is, fail at the start in one line."""
    client.config_set("requirepass", "right")
    try:
        with sink_of(redis_server, prefix, password="right") as sink:  # noqa: S106
            assert sink.write([FlowPart(0, table(rows()))]).written
        for options in ({}, {"password": "wrong"}):
            with pytest.raises(ConfigError, match="sign-in"), sink_of(redis_server, prefix, **options):
                pass
    finally:
        client.config_set("requirepass", "")
    with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:1"):
        RedisSink(RedisSettings(url="redis://127.0.0.1:1")).open()
