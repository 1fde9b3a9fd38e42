"""What the http sink does beyond the sink contract, at a real web service."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.rows.types.flows import FLOWS
from libs.local.ports import LOOPBACK, free_port
from services.sinks.frame.contract import Outcome, Part
from services.sinks.frame.registry import configured_sink
from services.sinks.kinds.http.sink import HttpSink
from tests.certificates import mutual_tls
from tests.flows import Spot, identity, row, rows, table
from tests.receiver import Kept, LocalReceiver, Place

LOGIN = {"username": "writer", "password": "hunter2-of-the-test"}
BASIC = "Basic d3JpdGVyOmh1bnRlcjItb2YtdGhlLXRlc3Q="


@pytest.fixture
def place(receiver: LocalReceiver) -> Place:
    """Give an unused path."""
    return receiver.place()


@contextmanager
def sink_of(place: Place, **options: Any) -> Iterator[HttpSink]:
    """Open a sink; one request at a time."""
    own = {"hosts": [place.server.url], "path": f"{place.path}/hook", "timeout_seconds": 5, "in_flight": 1, **options}
    sink = configured_sink({"http": own}, "http").sink
    assert isinstance(sink, HttpSink)
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


def part(content: Sequence[dict[str, Any]], *ends: int) -> Part:
    """Return rows as a part of messages with these ends."""
    return Part(0, FLOWS, table(content).unify_dictionaries().combine_chunks(), ends or (len(content),))


def rows_of(request: Kept) -> list[dict[str, Any]]:
    """Return the documents of a request."""
    return [json.loads(line) for line in request.body.splitlines()]


def identities(requests: Sequence[Kept]) -> list[Any]:
    """Return the rows of all requests, in order."""
    return [identity(values) for request in requests for values in rows_of(request)]


CONTENT = rows()  # 36


def test_a_request_says_what_it_is(place: Place) -> None:
    """Method, media type, compression, key and the operator's headers are those of the settings."""
    with sink_of(place, method="PUT", headers={"X-Tenant": "a", "Content-Type": "application/jsonl"}) as sink:
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
    (request,) = place.kept()
    assert (request.method, request.path) == ("PUT", f"{place.path}/hook")
    wanted = {"content-type": "application/jsonl", "content-encoding": "gzip", "x-tenant": "a", "user-agent": "blobtide"}
    assert wanted.items() <= request.headers.items()
    assert len(request.headers["idempotency-key"]) == 32


def test_a_replay_in_other_batches_has_the_same_keys(place: Place) -> None:
    """Bodies follow from messages: together or one by one, they have the same content and the same keys."""
    with sink_of(place, body_rows=5) as sink:
        sink.write([part(CONTENT, 8, 20, 36)])
        together = place.kept()
        for start, end in ((0, 8), (8, 20), (20, 36)):
            sink.write([part(CONTENT[start:end])])
    again = place.kept()[len(together) :]
    assert [(one.headers["idempotency-key"], one.body) for one in again] == [
        (one.headers["idempotency-key"], one.body) for one in together
    ]
    assert [len(rows_of(one)) for one in together] == [5, 3, 5, 5, 2, 5, 5, 5, 1]


def test_without_keys_bodies_hold_rows_of_several_messages(place: Place) -> None:
    """Small messages are sent together if nothing has to be recognised."""
    with sink_of(place, idempotency_header="") as sink:
        sink.write([part(CONTENT, 8, 20, 36)])
    (request,) = place.kept()
    assert "idempotency-key" not in request.headers
    assert identities([request]) == list(map(identity, CONTENT))


def test_the_path_may_have_row_type_name_and_partition(place: Place) -> None:
    """What an operator configures, and the number of the partition, stand in the path."""
    with sink_of(place, path=f"{place.path}/{{rows}}/{{sink}}/{{shard}}?a=b") as sink:
        sink.write([Part(7, FLOWS, part(CONTENT).rows, (36,))])
    assert [one.path for one in place.kept()] == [f"{place.path}/flows/http/7?a=b"]


def test_an_answer_that_is_lost_is_a_retry_and_the_key_tells(place: Place) -> None:
    """A body that was taken, but not acknowledged, comes again with the same key, so the receiver keeps it once."""
    place.rules(keys=True, cut=1)
    with sink_of(place) as sink:
        with pytest.raises(Retry):
            sink.write([part(CONTENT)])
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
    assert len(place.kept()) == 1


def test_a_receiver_may_say_that_it_knows_a_key(place: Place) -> None:
    """With a status of its own for that, rows count as there."""
    place.rules(keys=True, repeat_status=409)
    with sink_of(place, repeat_status=409) as sink:
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
        assert sink.write([part(CONTENT)]) == Outcome(0, len(CONTENT))


def test_what_was_taken_before_a_failure_is_not_sent_again(place: Place) -> None:
    """Of several bodies only those are repeated that the receiver did not take; no key is needed for that."""
    place.rules(answers=[{"status": 200}, {"status": 503, "headers": {"Retry-After": "3"}}])
    with sink_of(place, body_rows=9) as sink:
        with pytest.raises(Retry, match="answers 503") as raised:
            sink.write([part(CONTENT)])
        assert raised.value.after == 3.0
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
    assert identities(place.kept()) == list(map(identity, CONTENT[9:]))  # the first answer was one of the rules


@pytest.mark.parametrize("status", [401, 403, 404, 302, 415, 429, 500])
def test_what_is_not_about_a_body_costs_no_row(place: Place, status: int) -> None:
    """Faults of the operator and of the world are waited out and said."""
    place.rules(answers=[{"status": status, "text": "because"}])
    with sink_of(place) as sink:
        with pytest.raises(Retry, match=f"{status}.*: because") as raised:
            sink.write([part(CONTENT)])
        assert raised.value.kind == f"status_{status}"
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))


@pytest.mark.parametrize("status", [400, 422])
def test_rows_that_are_refused_are_found(place: Place, status: int) -> None:
    """A body with bad content is halved down to the rows at fault; the others are taken once."""
    place.rules(bad_text="300.1.2.3", bad_status=status)
    content = [*CONTENT[:7], row(Spot(0, 90, 0), src_ip="300.1.2.3"), *CONTENT[7:], row(Spot(0, 91, 0), src_ip="300.1.2.3")]
    with sink_of(place) as sink:
        outcome = sink.write([part(content)])
    assert [(one.part, one.row) for one in outcome.rejected] == [(0, 7), (0, 37)]
    assert outcome.rejected[0].reason == f"the receiver answered {status}: bad content"
    assert outcome.written == len(CONTENT)
    assert sorted(identities(place.kept())) == sorted(map(identity, CONTENT))


def test_a_body_that_is_too_large_is_halved(place: Place) -> None:
    """The receiver's limit is found without losing a row, and one row beyond it is rejected as too large."""
    place.rules(most_bytes=3_000)
    content = [*CONTENT, row(Spot(0, 90, 0), rule="x" * 4_000)]
    with sink_of(place) as sink:
        outcome = sink.write([part(content)])
    assert [(one.row, one.code.value) for one in outcome.rejected] == [(36, "too_large")]
    assert sorted(identities(place.kept())) == sorted(map(identity, CONTENT))
    assert len(place.kept()) > 4


@pytest.mark.parametrize("status", [307, 308])
def test_redirects_are_followed_within_the_host(place: Place, status: int) -> None:
    """A receiver may move its path: the same request goes there."""
    place.rules(moved=f"{place.path}/hook", moved_to=f"{place.path}/new", moved_status=status)
    with sink_of(place) as sink:
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
    assert [one.path for one in place.kept()] == [f"{place.path}/new"]


@pytest.mark.parametrize(
    ("target", "redirects"),
    [("http://localhost:{port}{path}/new", 3), ("//evil.example/x", 3), ("{path}/hook", 3), ("{path}/new", 0), ("http://[", 3)],
)
def test_redirects_elsewhere_or_for_ever_are_not(place: Place, target: str, redirects: int) -> None:
    """Another host, a circle and a redirect too many are said and waited out; nothing is sent there."""
    moved_to = target.format(port=place.server.port, path=place.path)
    place.rules(moved=f"{place.path}/hook", moved_to=moved_to, moved_status=307)
    with sink_of(place, redirects=redirects) as sink, pytest.raises(Retry, match="within the same host only"):
        sink.write([part(CONTENT)])
    assert place.kept() == []


@pytest.mark.parametrize(
    ("header", "value", "options"),
    [
        ("Authorization", BASIC, LOGIN),
        ("Authorization", "Bearer hunter2-of-the-test", {"bearer_token": LOGIN["password"]}),
        ("X-Api-Key", "hunter2-of-the-test", {"api_key": LOGIN["password"]}),
        ("X-Token", "hunter2-of-the-test", {"api_key": LOGIN["password"], "api_key_header": "X-Token"}),
    ],
)
def test_each_way_to_sign_in(place: Place, header: str, value: str, options: dict[str, Any]) -> None:
    """The right secret lets the rows in; without one, or with a wrong one, the start says so without quoting it."""
    place.rules(login_header=header, login=value)
    with sink_of(place, **options) as sink:
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
    wrong = {name: f"wrong-{value}" if value == LOGIN["password"] else value for name, value in options.items()}
    for bad in ({}, wrong):
        with pytest.raises(ConfigError, match="denies the sign-in") as raised, sink_of(place, **bad):
            pass
        assert "hunter2" not in str(raised.value)


def test_a_sign_in_that_is_withdrawn_is_waited_out(place: Place) -> None:
    """Rows wait while the receiver denies what it accepted at the start."""
    with sink_of(place, **LOGIN) as sink:
        place.rules(login="another")
        with pytest.raises(Retry, match="it denies the sign-in"):
            sink.write([part(CONTENT)])
        place.rules(login=BASIC)
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))


def test_a_receiver_that_is_not_there_is_named(place: Place) -> None:
    """A start says which address does not answer, unless it is not to look."""
    gone = {"hosts": [f"http://{LOOPBACK}:{free_port()}"]}
    said = r"127\.0\.0\.1:\d+ does not respond.*is the receiver running"
    with pytest.raises(ServerUnreachable, match=said), sink_of(place, **gone):
        pass
    with sink_of(place, check=False, **gone) as sink, pytest.raises(Retry):
        sink.write([part(CONTENT)])


def test_another_host_takes_over(place: Place) -> None:
    """Of several addresses, one that does not answer delays nothing."""
    hosts = [f"http://{LOOPBACK}:{free_port()}", place.server.url]
    with sink_of(place, hosts=hosts) as sink:
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
    assert identities(place.kept()) == list(map(identity, CONTENT))


def test_tls_with_certificates_of_both_sides(tmp_path: Path) -> None:
    """A certificate that is not trusted, and a missing one of our own, are refused; with both, rows go over TLS."""
    tls, own = mutual_tls(tmp_path)
    server = LocalReceiver(tmp_path / "receiver", tls=tls, client_authority=tmp_path / "ca.pem")
    server.start()
    try:
        place = server.place()
        known, ours = {"ca_file": tmp_path / "ca.pem"}, {"cert_file": own.certificate, "key_file": own.key}
        with pytest.raises(ConfigError, match="certificate is not trusted"), sink_of(place, **ours):
            pass
        with pytest.raises(ServerUnreachable, match="does not respond"), sink_of(place, **known):
            pass
        with sink_of(place, **known, **ours, **LOGIN) as sink:
            assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
        assert place.kept()[0].headers["authorization"] == BASIC
    finally:
        server.kill()


def test_a_server_killed_while_sending_loses_nothing(receiver: LocalReceiver, place: Place) -> None:
    """Requests that are on their way when the receiver dies are a Retry; afterwards every row is there, once by its key."""
    place.rules(hold=1, keys=True)
    with sink_of(place, in_flight=3, body_rows=4) as sink:
        beats: list[None] = []

        def kill_when_it_waits() -> None:
            beats.append(None)
            if receiver.running and place.waiting() == 3:
                receiver.kill()

        sink.while_waiting(kill_when_it_waits)
        with pytest.raises(Retry):
            sink.write([part(CONTENT)])
        sink.while_waiting(lambda: None)
        receiver.start()
        place.rules(keys=True)
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
    assert beats
    assert sorted(identities(place.kept())) == sorted(map(identity, CONTENT))


def test_ordered_bodies_of_a_partition_come_one_after_the_other(place: Place) -> None:
    """With several requests in flight, rows of each partition arrive in their order."""
    parts = [Part(shard, FLOWS, part(CONTENT[shard::3]).rows, (12,)) for shard in range(3)]
    with sink_of(place, in_flight=8, ordered=True, body_rows=1) as sink:
        assert sink.write(parts) == Outcome(len(CONTENT))
    came = identities(place.kept())
    for shard in range(3):
        own = list(map(identity, CONTENT[shard::3]))
        assert [one for one in came if one in own] == own


def test_array_bodies_are_compressed_like_any_other(place: Place) -> None:
    """A JSON array arrives whole, as a compressed body that says so."""
    with sink_of(place, layout="array", format="ecs") as sink:
        sink.write([part(CONTENT)])
    (request,) = place.kept()
    assert len(json.loads(request.body)) == len(CONTENT)
    assert int(request.headers["content-length"]) < len(request.body)
