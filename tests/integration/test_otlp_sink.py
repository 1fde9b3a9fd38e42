"""What the otlp sink does beyond the sink contract, at a real OTLP/HTTP receiver."""

from __future__ import annotations

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
from services.sinks.kinds.otlp.sink import OtlpSink
from tests.certificates import mutual_tls
from tests.flows import Spot, row, rows, table
from tests.otlp_records import expected_record, records_of
from tests.receiver import LocalReceiver, Place

LOGIN = {"username": "writer", "password": "hunter2-of-the-test"}
BASIC = "Basic d3JpdGVyOmh1bnRlcjItb2YtdGhlLXRlc3Q="
CONTENT = rows()  # 36


@pytest.fixture
def place(receiver: LocalReceiver) -> Place:
    """Give an unused path."""
    return receiver.place()


@contextmanager
def sink_of(place: Place, **options: Any) -> Iterator[OtlpSink]:
    """Open a sink; one request at a time."""
    own = {"hosts": [place.server.url], "path": f"{place.path}/v1/logs", "timeout_seconds": 5, "in_flight": 1, **options}
    sink = configured_sink({"otlp": own}, "otlp").sink
    assert isinstance(sink, OtlpSink)
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


def part(content: Sequence[dict[str, Any]]) -> Part:
    """Return rows as a part of one message."""
    return Part(0, FLOWS, table(content).unify_dictionaries().combine_chunks(), (len(content),))


def records(place: Place) -> list[dict[str, Any]]:
    """Return all records that came, in order; the request at the start has none."""
    return [record for request in place.kept() for record in records_of(request.body)]


def expected(content: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of rows."""
    return [expected_record(FLOWS, values) for values in content]


def test_a_request_says_what_it_is(place: Place) -> None:
    """Media type, compression, the operator's headers and attributes of the resource are those of the settings."""
    with sink_of(place, headers={"X-Scope-OrgID": "a"}, resource={"service.name": "edge"}) as sink:
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
    *_, request = place.kept()
    wanted = {"content-type": "application/x-protobuf", "content-encoding": "gzip", "x-scope-orgid": "a"}
    assert wanted.items() <= request.headers.items()
    assert list(records_of(request.body, {"service.name": "edge"})) == expected(CONTENT)


def test_requests_have_a_bounded_size(place: Place) -> None:
    """A message of many rows goes in several requests, and each row in one."""
    with sink_of(place, body_bytes=5_000, in_flight=4) as sink:
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
    assert len([one for one in place.kept() if len(one.body) > 200]) > 3
    assert sorted(records(place), key=uid) == sorted(expected(CONTENT), key=uid)


def uid(record: dict[str, Any]) -> str:
    """Return what identifies a record."""
    found: str = record["attributes"]["log.record.uid"]
    return found


def test_rejected_records_of_a_partial_success_are_found(place: Place) -> None:
    """Of a request of which some records are rejected these become dead letters, with the receiver's reason."""
    bad = [row(Spot(0, 90 + at, 0), src_ip="300.1.2.3") for at in range(2)]
    place.rules(partial_text="300.1.2.3")
    with sink_of(place) as sink:
        outcome = sink.write([part([*CONTENT[:5], bad[0], *CONTENT[5:], bad[1]])])
    assert [(one.part, one.row) for one in sorted(outcome.rejected, key=lambda one: one.row)] == [(0, 5), (0, 37)]
    assert {one.reason for one in outcome.rejected} == {"rejected by the receiver: a bad text"}
    assert outcome.written == len(CONTENT)
    assert {uid(record) for record in records(place)} == {uid(record) for record in expected(CONTENT)}


@pytest.mark.parametrize("status", [400, 500])
def test_a_request_that_is_not_retryable_is_halved(place: Place, status: int) -> None:
    """The records at fault become dead letters; the others are taken once."""
    place.rules(bad_text="300.1.2.3", bad_status=status)
    with sink_of(place) as sink:
        outcome = sink.write([part([*CONTENT, row(Spot(0, 90, 0), src_ip="300.1.2.3")])])
    assert [one.row for one in outcome.rejected] == [36]
    assert sorted(records(place), key=uid) == sorted(expected(CONTENT), key=uid)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_retryable_answers_are_waited_out(place: Place, status: int) -> None:
    """The receiver says how long; nothing is lost."""
    with sink_of(place) as sink:
        place.rules(answers=[{"status": status, "headers": {"Retry-After": "9"}}])
        with pytest.raises(Retry, match=str(status)) as raised:
            sink.write([part(CONTENT)])
        assert raised.value.after == 9.0
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
    assert records(place) == expected(CONTENT)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_faults_of_the_operator_are_waited_out_and_said(place: Place, status: int) -> None:
    """They cost no record."""
    with sink_of(place) as sink:
        place.rules(answers=[{"status": status}])
        with pytest.raises(Retry, match=f"the receiver answered {status}: "):
            sink.write([part(CONTENT)])
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))


def test_wrong_addresses_and_sign_ins_are_said_at_the_start(place: Place) -> None:
    """A server that is not there, one that is no receiver of logs, and a wrong password fail at the start in one line."""
    with pytest.raises(ServerUnreachable, match="does not respond"), sink_of(place, hosts=[f"http://{LOOPBACK}:{free_port()}"]):
        pass
    with pytest.raises(ServerUnreachable, match="is this an OTLP/HTTP receiver"), sink_of(place, path=f"{place.path}/else/"):
        pass
    place.rules(login=BASIC)
    for wrong in ({}, {**LOGIN, "password": "wrong"}):
        with pytest.raises(ConfigError, match="denies the sign-in"), sink_of(place, **wrong):
            pass
    with sink_of(place, **LOGIN) as sink:
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))


def test_another_host_takes_over(place: Place) -> None:
    """Of several addresses, one that does not answer delays nothing."""
    with sink_of(place, hosts=[f"http://{LOOPBACK}:{free_port()}", place.server.url]) as sink:
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
    assert records(place) == expected(CONTENT)


def test_tls_with_certificates_of_both_sides(tmp_path: Path) -> None:
    """A certificate that is not trusted, and a missing one of our own, are refused; with both, records go over TLS."""
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
        with sink_of(place, **known, **ours, bearer_token=LOGIN["password"]) as sink:
            assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
        assert place.kept()[-1].headers["authorization"] == f"Bearer {LOGIN['password']}"
    finally:
        server.kill()


def test_a_receiver_killed_while_sending_loses_nothing(receiver: LocalReceiver, place: Place) -> None:
    """Requests that are on their way when the receiver dies are a Retry; afterwards every record is there."""
    with sink_of(place, in_flight=3, body_rows=4) as sink:
        place.rules(hold=1)

        def kill_when_it_waits() -> None:
            if receiver.running and place.waiting() == 3:
                receiver.kill()

        sink.while_waiting(kill_when_it_waits)
        with pytest.raises(Retry):
            sink.write([part(CONTENT)])
        sink.while_waiting(lambda: None)
        receiver.start()
        assert sink.write([part(CONTENT)]) == Outcome(len(CONTENT))
    assert sorted(records(place), key=uid) == sorted(expected(CONTENT), key=uid)
