"""What the zeromq sink does beyond the sink contract, with receivers in processes of their own and with plain sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
import zmq
from structlog.testing import capture_logs

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.types.flows import FLOWS
from libs.local.ports import LOOPBACK, free_port
from services.sinks.frame.contract import Outcome
from services.sinks.kinds.zeromq.settings import ZeroMqSettings
from services.sinks.kinds.zeromq.sink import ZeroMqSink
from tests.documents import document_id, flat_document
from tests.flows import Spot, part, row, rows
from tests.zeromq_peer import Received, ZeroMqPeer, certificates, eventually

pytestmark = pytest.mark.zeromq
Peers = Mapping[str, ZeroMqPeer]


@contextmanager
def sink_of(endpoint: str, **options: Any) -> Iterator[ZeroMqSink]:
    """Open a sink."""
    sink = ZeroMqSink(ZeroMqSettings.model_validate({"endpoints": endpoint, "timeout_seconds": 2} | options), FLOWS)
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


@contextmanager
def peer_of(directory: Path, mode: str = "dealer", *options: str, port: int | None = None) -> Iterator[ZeroMqPeer]:
    """Run a receiver with options of its own."""
    peer = ZeroMqPeer(directory / "peer", port, mode, options)
    peer.start()
    try:
        yield peer
    finally:
        peer.kill()


@contextmanager
def socket_of(kind: int, **options: int) -> Iterator[tuple[zmq.Socket[bytes], str]]:
    """Give a plain socket of a peer, and its address."""
    endpoint = f"tcp://{LOOPBACK}:{free_port()}"
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        if kind == zmq.SUB:
            socket.subscribe(b"")
        socket.bind(endpoint)
        yield socket, endpoint


def numbers(messages: Sequence[Received]) -> list[tuple[int, int]]:
    """Return the sequence numbers of messages."""
    return [(one.header["sequence"], one.header["topic_sequence"]) for one in messages]


def test_a_message_says_which_row_it_is_and_has_two_numbers(zeromq_peers: Peers) -> None:
    """The header has the identity, the media type, and numbers in the session and in the topic; the payload is the row."""
    peer = zeromq_peers["dealer"]
    since, content = peer.size, rows()
    with sink_of(peer.url, topic="flows/{action}") as sink:
        assert sink.write([part(0, content)]) == Outcome(len(content))
    found = peer.received(since)
    assert [json.loads(one.payload) for one in found] == [flat_document(values) for values in content]
    assert [one.header["id"] for one in found] == [document_id(values) for values in content]
    assert [one.topic for one in found] == [f"flows/{values['action']}" for values in content]
    assert [one.header["sequence"] for one in found] == list(range(1, len(content) + 1))
    denied = [one.header["topic_sequence"] for one in found if one.topic == "flows/deny"]
    assert denied == list(range(1, len(denied) + 1))
    assert {(one.header["content_type"], one.header["rows"]) for one in found} == {("application/json", "flows")}


def test_a_start_is_a_new_session_with_numbers_from_one(zeromq_peers: Peers) -> None:
    """A receiver can tell a restart from a loss: the session is another one."""
    peer = zeromq_peers["dealer"]
    since = peer.size
    for _ in range(2):
        with sink_of(peer.url) as sink:
            sink.write([part(0, rows()[:3])])
    found = peer.received(since)
    assert numbers(found) == [(1, 1), (2, 2), (3, 3)] * 2
    assert len({one.header["session"] for one in found}) == 2


def test_a_peer_refuses_single_rows(tmp_path: Path) -> None:
    """A message that the peer refuses for good is named with the peer's reason; its neighbours are stored."""
    content = rows()
    large = row(Spot(9, 0, 0), rule="x" * 3_000)
    with peer_of(tmp_path, "dealer", "--largest", "2000") as peer:
        with sink_of(peer.url) as sink:
            outcome = sink.write([part(0, [*content[:4], large, *content[4:]])])
        (refused,) = outcome.rejected
        assert outcome.written == len(content) == len(peer.received())
    assert (refused.row, refused.code) == (4, ErrorCode.REFUSED)
    assert refused.reason == "the payload has more than 2000 bytes"


def test_a_peer_that_cannot_store_now_says_why(zeromq_peers: Peers) -> None:
    """A full or missing disk on the other side is a Retry with its reason; when it is back the rows are stored."""
    peer = zeromq_peers["dealer"]
    with sink_of(peer.url) as sink:
        with peer.without_disk(), pytest.raises(Retry, match="cannot store messages now: No such file") as raised:
            sink.write([part(0, rows())])
        assert raised.value.kind == "later"
        assert sink.write([part(0, rows())]) == Outcome(len(rows()))


@pytest.mark.parametrize("mode", ["dealer", "push"])
def test_a_peer_that_is_killed_while_rows_are_sent_costs_none(mode: str, tmp_path: Path) -> None:
    """Whenever the peer is killed, the write is a Retry; repeated until it succeeds, all rows are stored."""
    content = rows(blobs=4, records=50, tuples=20)
    with peer_of(tmp_path, mode) as peer, sink_of(peer.url, mode=mode) as sink:

        def kill() -> None:
            eventually(lambda: peer.size > 100_000)
            peer.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(Retry) as raised:
            _write_for_ever(sink, content)
        killer.join()
        assert raised.value.kind in {"peer_left", "no_peer"}
        peer.start()
        _write(sink, content)
        assert sink.numbering is not None
        peer.wait_for(sink.numbering.session, sink.numbering.sequence)
        assert {one.header["id"] for one in peer.received()} == {document_id(values) for values in content}


def _write_for_ever(sink: ZeroMqSink, content: Sequence[Mapping[str, Any]]) -> NoReturn:
    while True:
        sink.write([part(0, content)])


def _write(sink: ZeroMqSink, content: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as often as the sink asks."""
    outcomes: list[Outcome] = []

    def write() -> bool:
        try:
            outcomes.append(sink.write([part(0, content)]))
        except Retry:
            return False
        return True

    eventually(write)
    assert outcomes == [Outcome(len(content))]


def test_a_peer_that_hangs_is_a_retry(tmp_path: Path) -> None:
    """A stopped process acknowledges nothing: the write is given up in time, and succeeds when it continues."""
    with peer_of(tmp_path) as peer, sink_of(peer.url, timeout_seconds=0.5) as sink:
        of_peer = [one for one in psutil.Process().children(recursive=True) if str(peer.file) in one.cmdline()]
        receiver = of_peer[-1]  # the other one guards it
        receiver.suspend()
        with pytest.raises(Retry, match="no acknowledgement") as raised:
            sink.write([part(0, rows())])
        assert raised.value.kind == "no_progress"
        receiver.resume()
        _write(sink, rows())


def test_late_and_foreign_replies_settle_nothing_and_nonsense_is_said() -> None:
    """Only replies to this session count; what is no reply is a Retry that says so."""
    content = part(0, rows()[:2])
    with socket_of(zmq.ROUTER) as (router, endpoint), sink_of(endpoint) as sink:

        def answer(*replies: list[bytes]) -> threading.Thread:
            def run() -> None:
                sender, _, header, _ = router.recv_multipart()
                session = json.loads(header)["session"].encode()
                for reply in replies:
                    router.send_multipart([sender, *(session if frame == b"SESSION" else frame for frame in reply)])

            thread = threading.Thread(target=run)
            thread.start()
            return thread

        for replies, said in (
            ([[b"ACK", b"another", b"1-9"], [b"ACK", b"SESSION", b"100-900"]], "no acknowledgement"),
            ([[b"what?"]], "breaks the protocol: a reply has three or four frames"),
        ):
            thread = answer(*replies)
            with pytest.raises(Retry, match=said):
                sink.write([content])
            thread.join()
            while router.poll(100):
                router.recv_multipart()
        thread = answer([b"ACK", b"SESSION", b"1-999999999999999999"])
        assert sink.write([content]) == Outcome(2)
        thread.join()


def test_several_peers_share_the_messages(tmp_path: Path) -> None:
    """With several endpoints each peer acknowledges what it has got itself; together they have everything."""
    content = rows(blobs=2, records=10, tuples=10)
    with peer_of(tmp_path / "a") as one, peer_of(tmp_path / "b") as other:
        with sink_of(f"{one.url},{other.url}") as sink:
            eventually(
                lambda: sink.write([part(0, content)]) == Outcome(200) and len(other.received()) * len(one.received()) > 0
            )
        stored = {message.header["id"] for peer in (one, other) for message in peer.received()}
    assert stored == {document_id(values) for values in content}


def test_a_receiver_that_was_killed_while_it_wrote_goes_on_after_the_last_whole_line(tmp_path: Path) -> None:
    """What is left of a line is cut off: its message was not acknowledged and comes again."""
    line = json.dumps({"topic": "t", "header": {}, "payload": ""})
    file = tmp_path / "peer" / "received" / "rows.ndjson"
    file.parent.mkdir(parents=True)
    file.write_text(f"{line}\n{line[:20]}")
    with peer_of(tmp_path) as peer, sink_of(peer.url) as sink:
        assert sink.write([part(0, rows()[:2])]) == Outcome(2)
        assert [one.topic for one in peer.received()] == ["t", "blobtide/flows", "blobtide/flows"]


# --- Queues ---


def test_a_full_queue_is_a_retry_and_drops_nothing() -> None:
    """A PULL peer that does not read fills the queue; the sink waits, says so, and everything sent arrives in order."""
    content = [row(Spot(0, 0, number), rule="x" * 100_000) for number in range(200)]
    limits = {"RCVHWM": 1, "RCVBUF": 65_536}
    with socket_of(zmq.PULL, **limits) as (puller, endpoint):
        with sink_of(endpoint, mode="push", high_water_mark=5, timeout_seconds=0.5) as sink:
            with pytest.raises(Retry, match="stays full") as raised:
                sink.write([part(0, content)])
            assert raised.value.kind == "no_progress"
            assert sink.numbering is not None
            sent = sink.numbering.sequence
            assert 5 <= sent < len(content)
            found = [json.loads(puller.recv_multipart()[1])["sequence"] for _ in range(sent)]
        assert found == list(range(1, sent + 1))


def test_what_is_queued_is_handed_over_at_the_stop() -> None:
    """A sink that stops waits for a slow peer; one that takes too long is given up, which is logged."""
    content = [row(Spot(0, 0, number), rule="x" * 100_000) for number in range(60)]
    for linger, reads in ((8, True), (0.2, False)):
        with socket_of(zmq.PULL, RCVHWM=1, RCVBUF=65_536) as (puller, endpoint), capture_logs() as logs:
            with sink_of(endpoint, mode="push", linger_seconds=linger) as sink:
                assert sink.write([part(0, content)]) == Outcome(len(content))
                closing = threading.Thread(target=sink.close)
                closing.start()
                found = [puller.recv_multipart() for _ in content] if reads else []
                closing.join()
            assert len(found) == (len(content) if reads else 0)
        warned = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
        assert warned == ([] if reads else ["stopped before all queued messages were handed over"])


def test_a_publisher_waits_for_the_first_subscriber(tmp_path: Path) -> None:
    """While nobody is subscribed rows are not published into the void."""
    port = free_port()
    endpoint = f"tcp://{LOOPBACK}:{port}"
    with sink_of(endpoint, mode="pub", bind=True, timeout_seconds=0.5) as sink:
        with pytest.raises(Retry, match="nobody has subscribed") as raised:
            sink.write([part(0, rows())])
        assert raised.value.kind == "no_peer"
        with peer_of(tmp_path, "pub", "--connect", port=port) as peer:
            _write(sink, rows())
            eventually(lambda: len(peer.received()) == len(rows()))
        sink.tick()
        with pytest.raises(Retry, match="nobody has subscribed"):
            eventually(lambda: sink.write([part(0, rows())]) is None)


def test_a_subscriber_gets_the_topics_that_it_asks_for_without_gaps(tmp_path: Path) -> None:
    """Numbers by topic have no gaps for a subscriber of some topics."""
    with peer_of(tmp_path, "pub", "--topic", "flows/deny") as peer:
        with sink_of(peer.url, mode="pub", topic="flows/{action}") as sink:
            sink.write([part(0, rows())])
        denied = [values for values in rows() if values["action"] == "deny"]
        eventually(lambda: len(peer.received()) == len(denied))
        assert [one.header["topic_sequence"] for one in peer.received()] == list(range(1, len(denied) + 1))
        assert "missed" not in peer.output()


@pytest.mark.parametrize("wait", [False, True])
def test_a_slow_subscriber_loses_noticeably_or_is_waited_for(*, wait: bool) -> None:
    """A subscriber that does not keep up misses numbers; with wait_for_slow the sink waits for it instead."""
    content = [row(Spot(0, 0, number), rule="x" * 100_000) for number in range(200)]
    options = {"mode": "pub", "high_water_mark": 5, "wait_for_slow": wait, "timeout_seconds": 0.5}
    with socket_of(zmq.SUB, RCVHWM=1, RCVBUF=65_536) as (subscriber, endpoint), sink_of(endpoint, **options) as sink:
        eventually(lambda: subscriber.poll(0) == 0 and _is_subscribed_to(sink))
        if wait:
            with pytest.raises(Retry, match="stays full"):
                sink.write([part(0, content)])
        else:
            assert sink.write([part(0, content)]) == Outcome(len(content))
        assert sink.numbering is not None
        sent = sink.numbering.sequence
        found = []
        while subscriber.poll(500):
            found.append(json.loads(subscriber.recv_multipart()[1])["topic_sequence"])
        assert found == sorted(set(found))
        assert (found == list(range(1, sent + 1))) is wait


def _is_subscribed_to(sink: ZeroMqSink) -> bool:
    sink.tick()
    return sink._connection is not None and sink._connection.has_audience()


# --- Keys ---


def test_a_peer_with_curve_lets_in_those_whose_key_it_has(tmp_path: Path) -> None:
    """With the right keys rows arrive; with another key of ours, or none, or another key of the peer, they do not."""
    files, others = certificates(tmp_path / "keys"), certificates(tmp_path / "others")
    own = {"curve_key_file": files.sink, "curve_server_key_file": files.peer_public}
    peer_options = ("--key", str(files.peer), "--sinks", str(files.sink.parent))
    with peer_of(tmp_path, "dealer", *peer_options) as peer:
        with sink_of(peer.url, **own) as sink:
            assert sink.write([part(0, rows())]) == Outcome(len(rows()))
        with pytest.raises(ConfigError, match="does not let our key in; add the sink's public key"):
            sink_of(peer.url, **{**own, "curve_key_file": others.sink}).__enter__()
        for options in ({**own, "curve_server_key_file": others.peer_public}, {}):
            with pytest.raises(ServerUnreachable, match="CURVE"):
                sink_of(peer.url, timeout_seconds=1, **options).__enter__()


def test_a_sink_that_listens_lets_in_those_whose_key_it_has(tmp_path: Path) -> None:
    """With bind the sink is the server: peers with a known key get rows, others are nobody."""
    files, others = certificates(tmp_path / "keys"), certificates(tmp_path / "others")
    port = free_port()
    server = {"bind": True, "curve_key_file": files.sink, "curve_clients_directory": files.peer.parent}
    with sink_of(f"tcp://{LOOPBACK}:{port}", mode="push", **server) as sink:
        sink_key = ("--connect", "--sink-key", str(files.sink_public))
        with peer_of(tmp_path / "a", "push", *sink_key, "--key", str(others.peer), port=port), pytest.raises(Retry) as raised:
            sink.write([part(0, rows())])
        assert raised.value.kind == "no_peer"
        with peer_of(tmp_path / "b", "push", *sink_key, "--key", str(files.peer), port=port) as peer:
            _write(sink, rows())
            eventually(lambda: len(peer.received()) >= len(rows()))


def test_who_listens_unencrypted_at_a_network_is_warned() -> None:
    """Anybody could connect; on this machine only, or with CURVE, there is nothing to say."""
    for host, warnings in (("*", 1), (LOOPBACK, 0)):
        with capture_logs() as logs, sink_of(f"tcp://{host}:{free_port()}", mode="push", bind=True):
            pass
        assert [entry["event"][:7] for entry in logs] == ["anybody"] * warnings


# --- Starts ---


def test_a_peer_that_is_not_there_is_named() -> None:
    """A start says which address does not answer."""
    endpoint = f"tcp://{LOOPBACK}:{free_port()}"
    with pytest.raises(ServerUnreachable, match=rf"zeromq peer {endpoint}: no answer.*is it running"):
        sink_of(endpoint, timeout_seconds=0.3).__enter__()


def test_an_address_that_cannot_be_used_is_named() -> None:
    """An address in use may become free; one of another machine will not."""
    with socket_of(zmq.PULL) as (_, endpoint), pytest.raises(ServerUnreachable, match=f"{endpoint} is in use"):
        sink_of(endpoint, bind=True).__enter__()
    with pytest.raises(ConfigError, match=r"endpoints: tcp://192\.0\.2\.1:5555 cannot be used"):
        sink_of("tcp://192.0.2.1:5555", bind=True).__enter__()
