"""The client of the forward protocol: what it makes of a server's answers, and what it sends again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgpack
import pytest

from libs.common.errors import ConfigError, Retry
from libs.local.ports import LOOPBACK, free_port
from services.sinks.kinds.fluent.client import ChunkMessage, ForwardClient, Servers
from services.sinks.kinds.fluent.connection import Access
from services.sinks.kinds.fluent.handshake import Credentials
from tests.fakes.forward_server import NONCE, Script, proof, serving

KEY = "canary key"
OWN = Credentials("sink", KEY, ("writer", "se'cret"))


def chunks(number: int) -> list[ChunkMessage]:
    """Return chunks with distinct ids."""
    return [ChunkMessage(f"id-{one}", msgpack.packb(["tag", b"", {"chunk": f"id-{one}"}])) for one in range(number)]


@contextmanager
def client_of(
    *scripts: Script, credentials: Credentials | None = None, seconds: float = 5.0, **more: int
) -> Iterator[ForwardClient]:
    """Give a client of servers with these scripts."""
    with ExitStack() as stack:
        addresses = tuple(stack.enter_context(serving(script)) for script in scripts)
        client = ForwardClient(Servers(addresses, Access(credentials, timeout_seconds=seconds), **more))
        stack.callback(client.close)
        yield client


def ids(script: Script) -> list[str]:
    """Return the ids of the chunks that a server got."""
    return [option["chunk"] for _, _, option in script.received]


def test_chunks_are_divided_among_connections() -> None:
    """Each connection gets its share, and all chunks arrive once."""
    first, second = Script(), Script()
    with client_of(first, second, connections=2) as client:
        client.deliver(chunks(10))
    assert sorted(ids(first) + ids(second)) == sorted(f"id-{number}" for number in range(10))
    assert len(ids(first)) == len(ids(second)) == 5


def test_a_broken_connection_is_replaced_and_what_it_held_sent_again() -> None:
    """Chunks without an acknowledgement go to the next server, under the same ids."""
    weak, strong = Script(answer=lambda number, chunk: None if number == 2 else msgpack.packb({"ack": chunk})), Script()
    with client_of(weak, strong, in_flight=4) as client:
        client.deliver(chunks(8))
    assert set(ids(weak) + ids(strong)) == {f"id-{number}" for number in range(8)}
    assert "id-2" in ids(strong)


def test_what_was_acknowledged_before_a_failure_is_not_sent_again() -> None:
    """After a Retry the same delivery sends only the chunks that were not acknowledged, until it is told to forget."""
    gone = [True]
    script = Script(answer=lambda number, chunk: None if gone[0] and number >= 3 else msgpack.packb({"ack": chunk}))
    with client_of(script, in_flight=1) as client:
        with pytest.raises(Retry):
            client.deliver(chunks(5))
        gone[0], before = False, len(script.received)
        client.deliver(chunks(5))
        assert ids(script)[before:] == ["id-3", "id-4"]
        client.forget()
        client.deliver(chunks(2))
        assert ids(script)[-2:] == ["id-0", "id-1"]


def test_a_chunk_that_comes_twice_is_sent_once() -> None:
    """A message that a batch has twice makes the same chunk, and one acknowledgement is enough."""
    script = Script()
    with client_of(script) as client:
        client.deliver([*chunks(2), *chunks(3)])
    assert ids(script) == ["id-0", "id-1", "id-2"]


def test_a_server_that_does_not_acknowledge_in_time_is_a_retry() -> None:
    """Silence is not taken for consent, and the sink keeps beating meanwhile."""
    beats: list[float] = []
    with client_of(Script(answer=lambda _, __: b""), seconds=0.1) as client:
        client.beat = lambda: beats.append(time.monotonic())
        with pytest.raises(Retry, match="does not acknowledge in time") as raised:
            client.deliver(chunks(1))
    assert raised.value.kind == "no_acknowledgement"
    assert beats


@pytest.mark.parametrize("said", [msgpack.packb(7), msgpack.packb({"other": 1}), msgpack.packb({"ack": 1}), b"\xc1"])
def test_an_answer_that_is_no_acknowledgement_is_a_retry(said: bytes) -> None:
    """Whatever else speaks there, nothing counts as written."""
    with client_of(Script(answer=lambda _, __: said)) as client, pytest.raises(Retry) as raised:
        client.deliver(chunks(1))
    assert raised.value.kind == "protocol"


def test_a_server_that_keeps_no_connection_gets_one_for_each_chunk() -> None:
    """With keepalive false in its greeting a server gets a chunk a connection."""
    script = Script(helo={"nonce": NONCE, "auth": b"", "keepalive": False}, pong=lambda ping: proof(ping, KEY), closes_after=1)
    with client_of(script, credentials=OWN) as client:
        client.deliver(chunks(3))
    assert ids(script) == ["id-0", "id-1", "id-2"]
    assert script.connections == 3


@pytest.mark.parametrize("salt", [b"\x00salt", "salt"])
def test_a_sign_in_proves_key_and_password_without_sending_them(salt: Any) -> None:
    """The digests are those of the specification, whether the server's values are bytes or text."""
    script = Script(helo={"nonce": NONCE, "auth": salt, "keepalive": True}, pong=lambda ping: proof(ping, KEY))
    with client_of(script, credentials=OWN) as client:
        client.deliver(chunks(1))
    ((name, hostname, own_salt, key_proof, user, password_proof),) = script.pings
    assert (name, hostname, user) == ("PING", "sink", "writer")
    assert key_proof == hashlib.sha512(own_salt + b"sink" + NONCE + KEY.encode()).hexdigest()
    salt_bytes = salt if isinstance(salt, bytes) else salt.encode()
    assert password_proof == hashlib.sha512(salt_bytes + b"writer" + b"se'cret").hexdigest()


@pytest.mark.parametrize(
    ("pong", "said"),
    [
        (["PONG", False, "shared key mismatch", "server", ""], r"does not let us in \(shared key mismatch\)"),
        (["PONG", True, "", "server", "0" * 128], "does not know the shared key"),
        (["PONG", True, "", "server", None], "does not know the shared key"),
    ],
)
def test_a_refused_sign_in_is_the_operators_business(pong: list[Any], said: str) -> None:
    """A server that refuses us, or cannot prove itself, says so; no secret is quoted."""
    script = Script(helo={"nonce": NONCE, "auth": b"", "keepalive": True}, pong=lambda _: pong)
    with client_of(script, credentials=OWN) as client, pytest.raises(ConfigError, match=said) as raised:
        client.open()
    assert KEY not in str(raised.value)


def test_a_server_with_the_name_of_the_sink_is_noticed() -> None:
    """Two sides of one name would be a loop: which setting changes it is said."""
    script = Script(helo={"nonce": NONCE}, pong=lambda ping: proof(ping, KEY, "sink"))
    with client_of(script, credentials=OWN) as client, pytest.raises(ConfigError, match="set hostname"):
        client.open()


def test_a_server_that_asks_for_more_than_is_set_is_the_operators_business() -> None:
    """A server that wants a key, or a user, is named with the setting that it wants."""
    asking = Script(helo={"nonce": NONCE, "auth": b"salt"})
    with client_of(asking) as client, pytest.raises(ConfigError, match="asks for a shared key: set shared_key"):
        client.deliver(chunks(1))
    with client_of(asking, credentials=Credentials("sink", KEY)) as client, pytest.raises(ConfigError, match="asks for a user"):
        client.open()


def test_a_server_without_a_greeting_is_not_waited_for_for_ever() -> None:
    """With a shared key a server that does not greet is a Retry that says what may be wrong."""
    with (
        client_of(Script(), credentials=OWN, seconds=0.1) as client,
        pytest.raises(Retry, match="leave out shared_key if it has none"),
    ):
        client.open()


def test_servers_that_are_not_there_are_passed_over_and_named() -> None:
    """The next server is used; if none answers, the last reason is said."""
    nowhere = f"tcp://{LOOPBACK}:{free_port()}"
    script = Script()
    with serving(script) as address:
        client = ForwardClient(Servers((nowhere, address), Access(timeout_seconds=5)))
        client.deliver(chunks(1))
        client.close()
    assert ids(script) == ["id-0"]
    client = ForwardClient(Servers((nowhere,), Access(timeout_seconds=5)))
    with pytest.raises(Retry, match=f"{nowhere} does not answer: ConnectionRefusedError"):
        client.deliver(chunks(1))
