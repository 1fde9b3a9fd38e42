"""What the redis sink does beyond the sink contract, on a real Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.rows.types.flows import FLOWS
from libs.local.redis import LocalRedis
from services.sinks.frame.contract import Outcome
from services.sinks.kinds.redis.script import append_once
from services.sinks.kinds.redis.sink import RedisSettings, RedisSink
from tests.documents import document_id, flat_document
from tests.fixtures.stores import LocalRedisCluster
from tests.flows import Spot, by_identity, identity, row, rows
from tests.flows import part as flow_part

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
    sink = RedisSink(RedisSettings(url=server.url, prefix=prefix, **options), FLOWS)
    sink.open()
    yield sink
    sink.close()


def entries_of(client: Redis, stream: str) -> list[str | bytes]:
    """Return the documents of a stream, in order."""
    return [entry[b"flow"] for _, entry in client.xrange(stream) or () if entry]


def test_keys_hold_each_flow_once_and_expire(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """In keys mode each row is a key of its identity with a life time; a repeat changes nothing."""
    content = rows()
    part = flow_part(0, content)
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
            assert sink.write([flow_part(0, content[: at + 1])]) == Outcome(1, at)
    entries = [json.loads(document) for document in entries_of(client, f"{prefix}:{{0}}")]
    assert [(entry["record_offset"], entry["tuple_index"]) for entry in entries] == places


def test_streams_are_trimmed_and_positions_outlive_them(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """A stream keeps about `max_entries`; rows that were trimmed do not come back with a replay."""
    content = rows(blobs=2, records=30, tuples=50)
    part = flow_part(0, content)
    with sink_of(redis_server, prefix, max_entries=100, remember_days=2) as sink:
        assert sink.write([part]) == Outcome(3_000)
        assert 100 <= client.xlen(f"{prefix}:{{0}}") < 400
        assert sink.write([part]) == Outcome(0, 3_000)
    positions = list(client.scan_iter(f"{prefix}:{{0}}:*"))
    assert len(positions) == 2
    assert all(86_400 < client.ttl(key) <= 2 * 86_400 for key in positions)


def test_a_stream_that_is_kept_for_ever_loses_its_end(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """When ttl_seconds is set to 0, a stream that had a life time is kept from the next flow on."""
    with sink_of(redis_server, prefix, ttl_seconds=500) as sink:
        sink.write([flow_part(0, [row(Spot(0, 0, 0))])])
    assert 0 < client.ttl(f"{prefix}:{{0}}") <= 500
    with sink_of(redis_server, prefix, ttl_seconds=0) as sink:
        sink.write([flow_part(0, [row(Spot(0, 1, 0))])])
    assert client.ttl(f"{prefix}:{{0}}") == -1


def test_a_large_write_is_one_stream_in_order(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """Rows of many calls, in which a range comes twice, stand once and in order; the process shows that it is alive."""
    content = rows(blobs=3, records=60, tuples=50)
    part = flow_part(0, content[:4_000] + content[1_000:])
    beats: list[None] = []
    with sink_of(redis_server, prefix) as sink:
        sink.while_waiting(lambda: beats.append(None))
        assert sink.write([part]) == Outcome(len(content), 3_000)
    entries = [json.loads(document) for document in entries_of(client, f"{prefix}:{{0}}")]
    assert len(beats) >= 2
    assert [identity(entry) for entry in entries] == [identity(values) for values in content]


def test_a_call_behind_one_that_failed_adds_nothing(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """Rows that the server took in spite of a failure before them would hide the rows that it did not take."""
    script = append_once("flow")
    (calls,) = RedisSink(RedisSettings(), FLOWS)._calls(flow_part(0, rows(blobs=1, records=20, tuples=50)))
    keys = [f"{prefix}:{{0}}", f"{prefix}:{{0}}:g"]
    for number, expected in ((1, None), (0, 512), (1, 488), (0, 0), (1, 0)):
        arguments: tuple[Any, ...] = (*keys, 1_000, 0, 0, *calls[number].arguments())
        if expected is None:
            with pytest.raises(ResponseError, match="BEHIND"):
                client.eval(script, len(keys), *arguments)
            assert client.xlen(keys[0]) == 0
        else:
            assert client.eval(script, len(keys), *arguments) == expected


@pytest.fixture(params=["streams", "keys"])
def sink(redis_server: LocalRedis, prefix: str, request: pytest.FixtureRequest) -> Iterator[RedisSink]:
    """Open a sink in each of its modes."""
    with sink_of(redis_server, prefix, mode=request.param) as opened:
        yield opened


@contextmanager
def set_to(client: Redis, option: str, value: str) -> Iterator[None]:
    """Give an option of the server, 0 by default, another value for a while."""
    client.config_set(option, value)
    try:
        yield
    finally:
        client.config_set(option, "0")


@pytest.mark.parametrize(
    ("option", "said"), [("maxmemory", "OutOfMemory"), ("min-replicas-to-write", "ResponseError: NOREPLICAS")]
)
def test_a_server_that_takes_no_writes_is_a_retry(sink: RedisSink, client: Redis, option: str, said: str) -> None:
    """A write to a server without memory or replicas is a Retry that says so and shows no flow, and goes through afterwards."""
    part = flow_part(0, rows())
    with set_to(client, option, "1"), pytest.raises(Retry, match=said):
        sink.write([part])
    assert sink.write([part]) == Outcome(part.rows.num_rows)


def test_a_read_only_server_is_a_retry(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """A server that has become a replica takes nothing: the write waits for the failover."""
    part = flow_part(0, rows())
    with sink_of(redis_server, prefix) as sink:
        client.replicaof("127.0.0.1", 1)
        try:
            with pytest.raises(Retry, match="ReadOnly"):
                sink.write([part])
        finally:
            client.replicaof("NO", "ONE")
        assert sink.write([part]) == Outcome(part.rows.num_rows)


def test_a_foreign_key_is_the_operators_fault(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """A key of another type under the prefix stops the sink with advice."""
    client.set(f"{prefix}:{{0}}", "x")
    with sink_of(redis_server, prefix) as sink, pytest.raises(ConfigError, match="its own prefix"):
        sink.write([flow_part(0, rows())])


def test_wrong_password_and_address_are_said_at_the_start(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """A password that is missing or wrong, and an address where nobody is, fail at the start in one line."""
    client.config_set("requirepass", "right")
    try:
        with sink_of(redis_server, prefix, password="right") as sink:  # noqa: S106
            assert sink.write([flow_part(0, rows())]).written
        for options in ({}, {"password": "wrong"}):
            with pytest.raises(ConfigError, match="sign-in"), sink_of(redis_server, prefix, **options):
                pass
    finally:
        client.config_set("requirepass", "")
    with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:1"):
        RedisSink(RedisSettings(url="redis://127.0.0.1:1"), FLOWS).open()
    with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:1"):
        RedisSink(RedisSettings(url="redis://127.0.0.1:1", cluster=True), FLOWS).open()


@contextmanager
def subscribed(client: Redis, prefix: str) -> Iterator[Any]:
    """Subscribe to all channels under a prefix."""
    messages: Any = client.pubsub()  # type: ignore[no-untyped-call]
    with messages:
        messages.psubscribe(f"{prefix}:*")
        assert messages.get_message(timeout=30) is not None
        yield messages


def test_messages_go_to_the_channel_of_their_row(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """In pubsub mode a row is a message on a channel that its values choose, and who subscribes gets all of them in order."""
    content, channel = rows(), f"{prefix}:{{rows}}:{{action}}"
    with subscribed(client, prefix) as messages, sink_of(redis_server, prefix, mode="pubsub", channel=channel) as sink:
        assert sink.write([flow_part(0, content)]) == Outcome(len(content))
        came = [messages.get_message(ignore_subscribe_messages=True, timeout=30) for _ in content]
    found = [(one["channel"].decode(), json.loads(one["data"])) for one in came if one is not None]
    assert found == [(f"{prefix}:flows:{values['action']}", flat_document(values)) for values in content]


def test_values_of_rows_choose_no_other_channel(redis_server: LocalRedis, client: Redis, prefix: str) -> None:
    """Text in a row adds no level and no pattern to the name of a channel."""
    content = [row(Spot(0, 0, 0), rule="a:*?[b]\r\n")]
    channel = f"{prefix}:{{rule}}"
    with subscribed(client, prefix) as messages, sink_of(redis_server, prefix, mode="pubsub", channel=channel) as sink:
        sink.write([flow_part(0, content)])
        message = messages.get_message(ignore_subscribe_messages=True, timeout=30)
    assert message is not None
    assert message["channel"].decode() == f"{prefix}:a____b___"


def test_that_nobody_listens_is_said_once(redis_server: LocalRedis, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows that nobody subscribes to are written all the same, and lost: a warning says so until somebody comes."""
    with sink_of(redis_server, prefix, mode="pubsub", channel=f"{prefix}:{{action}}") as sink:
        for _ in range(2):
            assert sink.write([flow_part(0, rows())]) == Outcome(len(rows()))
    said = capsys.readouterr()
    assert (said.out + said.err).count("nobody subscribes") == 1


@pytest.mark.parametrize("mode", ["streams", "keys"])
def test_a_cluster_takes_each_flow_once(redis_cluster: LocalRedisCluster, prefix: str, mode: str) -> None:
    """On a Redis Cluster rows of several shards are written, and a repeat adds nothing."""
    content = rows(blobs=4, records=20, tuples=20)
    parts = [flow_part(shard, content[shard::2]) for shard in range(2)]
    with sink_of(redis_cluster, prefix, cluster=True, mode=mode) as sink:
        assert sink.write(parts) == Outcome(len(content))
        assert sink.write(parts) == Outcome(0, len(content))
    with Redis.from_url(redis_cluster.url) as client:
        if mode == "keys":
            documents = [client.get(key) or b"" for key in client.scan_iter(f"{prefix}:*")]
        else:
            documents = [document for shard in range(2) for document in entries_of(client, f"{prefix}:{{{shard}}}")]
        found = [json.loads(document) for document in documents]
    assert by_identity(found).keys() == by_identity(content).keys()


def test_a_cluster_that_refuses_the_password_says_so(redis_cluster: LocalRedisCluster, prefix: str) -> None:
    """A password that is missing or wrong stops the sink at the start, as without a cluster."""
    cluster = {"cluster": True, "allow_plaintext_credentials": True}
    with Redis.from_url(redis_cluster.url) as client:
        client.config_set("requirepass", "right")
        try:
            for options in ({}, {"password": "wrong"}):
                with pytest.raises(ConfigError, match="sign-in"), sink_of(redis_cluster, prefix, **cluster, **options):
                    pass
        finally:
            client.config_set("requirepass", "")
