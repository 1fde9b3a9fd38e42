"""The elasticsearch sink against a cluster that goes wrong in every way a ``_bulk`` request can."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import ConfigError, Retry, ServerUnreachable
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.contract import Outcome, Part
from services.sinks.kinds.elasticsearch.sink import ElasticsearchSettings, ElasticsearchSink
from tests.documents import document_id, ecs_document
from tests.fakes.bulk_server import BulkServer, Fault, ItemError
from tests.flows import Spot, row, rows
from tests.flows import part as flow_part

ROWS = rows(blobs=2, records=2, tuples=3)  # 12
CONTENT = "999.1.2.3"
MAPPING: ItemError = (
    400,
    "document_parsing_exception",
    f"failed to parse field [source.ip] of type [ip] in document with id 'x'. Preview of field's value: '{CONTENT}'",
)
BUSY: ItemError = (429, "es_rejected_execution_exception", "queue is full")
SHARD_LIMIT: ItemError = (400, "validation_exception", "this action would add [2] shards, but this cluster has [1000]/[1000]")


class Naps(list[float]):
    """Remembers how long it was asked to sleep, and does not."""

    def __call__(self, seconds: float) -> None:
        """Remember."""
        self.append(seconds)


@contextmanager
def sink_of(*servers: str, naps: Naps | None = None, **options: Any) -> Iterator[ElasticsearchSink]:
    """Open a sink on some addresses; one request at a time."""
    settings = ElasticsearchSettings(hosts=servers, require_template=False, **{"timeout_seconds": 5, "in_flight": 1, **options})
    sink = ElasticsearchSink(settings, FLOWS, Naps() if naps is None else naps)
    sink.open()
    yield sink
    sink.close()


def part(content: Sequence[Mapping[str, Any]]) -> list[Part]:
    """Return rows as one part."""
    return [flow_part(0, content)]


def documents(content: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what a cluster holds when the rows were written once."""
    return {("blobtide-flows-2026.05.01", document_id(values)): ecs_document(values) for values in content}


def test_a_slow_cluster_is_waited_for_with_a_beat() -> None:
    """While a request has no answer yet, and after each one, the process says that it is alive."""
    beat = threading.Event()
    with BulkServer() as server, sink_of(server.url, timeout_seconds=60) as sink:
        sink.while_waiting(beat.set)
        server.faults += [Fault(hold=beat)]
        assert sink.write(part(ROWS)).written == len(ROWS)
        assert beat.is_set()
        beat.clear()
        sink.write(part(ROWS))
        assert beat.is_set()


def test_errors_of_items_are_told_apart() -> None:
    """In one answer an existing document counts as there, a bad one is refused by name, a busy one alone is sent again."""
    naps = Naps()
    with BulkServer() as server, sink_of(server.url, naps=naps) as sink:
        sink.write(part(ROWS[:1]))
        bad, busy = document_id(ROWS[3]), document_id(ROWS[5])
        server.faults += [Fault(items={bad: MAPPING, busy: BUSY}), Fault(items={busy: BUSY})]
        outcome = sink.write(part(ROWS))
        assert (outcome.written, outcome.already_there) == (10, 1)
        [refused] = outcome.rejected
        assert (refused.part, refused.row, refused.code) == (0, 3, ErrorCode.REFUSED)
        assert refused.reason == "status 400, document_parsing_exception on field source.ip"
        assert server.requests[-2:] == [[busy], [busy]]
        assert len(naps) == 2
        assert server.documents == documents([*ROWS[:3], *ROWS[4:]])


def test_items_that_stay_busy_become_a_retry() -> None:
    """After a few tries of the busy documents the write is a Retry, and the next one counts the others as there."""
    with BulkServer() as server, sink_of(server.url) as sink:
        server.faults += [Fault(items={document_id(ROWS[5]): BUSY})] * 4
        with pytest.raises(Retry, match="1 documents not accepted: status 429, es_rejected_execution_exception"):
            sink.write(part(ROWS))
        assert sink.write(part(ROWS)) == Outcome(1, 11)
        assert server.documents == documents(ROWS)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SHARD_LIMIT, "validation_exception"),
        ((400, "illegal_argument_exception", "pipeline with id [x] does not exist"), "illegal_argument_exception"),
        ((400, "illegal_argument_exception", "no write index is defined for alias [x]"), "illegal_argument_exception"),
        (
            (400, "illegal_argument_exception", "Number of documents in the shard cannot exceed [1]"),
            "illegal_argument_exception",
        ),
        ((400, "script_exception", "runtime error"), "script_exception"),
        (
            (403, "cluster_block_exception", "index [x] blocked by: [FORBIDDEN/5/index read-only (api)]"),
            "cluster_block_exception",
        ),
    ],
)
def test_an_error_of_the_cluster_is_no_fault_of_the_document(error: ItemError, kind: str) -> None:
    """What the operator has to mend makes the sink wait and say so, instead of draining rows into dead letters."""
    with BulkServer() as server, sink_of(server.url) as sink:
        server.faults += [Fault(items={"": error})] * 4
        with pytest.raises(Retry, match=f"12 documents not accepted: status {error[0]}, {kind}") as raised:
            sink.write(part(ROWS))
        assert raised.value.kind == kind
        assert sink.write(part(ROWS)) == Outcome(12)


def test_an_unknown_error_of_all_documents_is_the_clusters() -> None:
    """A kind of refusal that is not known is waited out while it meets every document, and costs one if it meets only that."""
    unknown: ItemError = (400, "never_heard_of_exception", "?")
    with BulkServer() as server, sink_of(server.url) as sink:
        server.faults += [Fault(items={"": unknown})]
        with pytest.raises(Retry, match="every document is refused"):
            sink.write(part(ROWS))
        server.faults += [Fault(items={document_id(ROWS[3]): unknown})]
        outcome = sink.write(part(ROWS))
        assert [bad.row for bad in outcome.rejected] == [3]
        assert outcome.written == 11


def test_an_operator_may_let_all_of_them_pass() -> None:
    """With dead_letter_limit 1 also refusals of an unknown kind become dead letters: a single row cannot block for good."""
    with BulkServer() as server, sink_of(server.url, dead_letter_limit=1) as sink:
        server.faults += [Fault(items={"": (400, "never_heard_of_exception", "?")})]
        assert len(sink.write(part(ROWS)).rejected) == 12


def test_a_gateway_that_takes_no_body_of_any_size_costs_no_row() -> None:
    """When every single row is too large for what stands before the cluster, the limit is at fault."""
    with BulkServer(max_body=10) as server, sink_of(server.url) as sink:
        with pytest.raises(Retry, match="does not accept requests of this size"):
            sink.write(part(ROWS))
        server.max_body = 100_000
        assert sink.write(part(ROWS)) == Outcome(12)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, "<html>no back end</html>", "is the URL correct"),
        (403, "<html>denied</html>", "is the URL correct"),
        (400, "<html>?</html>", "is the URL correct"),
        (405, "", "is the URL correct"),
        (301, "", "is the URL correct"),
        (403, {"error": {"type": "cluster_block_exception", "reason": "blocked by: [read-only]"}}, "blocked by: [read-only]"),
    ],
)
def test_an_answer_of_something_else_is_waited_out(status: int, body: Any, said: str) -> None:
    """A whole answer that blames no document and no sign-in, from the cluster or from what stands before it, is a Retry."""
    with BulkServer() as server, sink_of(server.url) as sink:
        server.faults.append(Fault(status=status, body=body))
        with pytest.raises(Retry, match=re.escape(said)) as raised:
            sink.write(part(ROWS))
        assert raised.value.kind == f"status_{status}"
        assert sink.write(part(ROWS)) == Outcome(12)


def test_a_right_that_is_missing_stops_the_sink() -> None:
    """A cluster that says who may not write is the operator's to mend."""
    with BulkServer() as server, sink_of(server.url) as sink:
        server.faults.append(Fault(status=403, body={"error": {"type": "security_exception", "reason": "no permissions"}}))
        with pytest.raises(ConfigError, match="the right to write"):
            sink.write(part(ROWS))


@pytest.mark.parametrize(
    ("fault", "after"),
    [
        (Fault(status=429, headers={"Retry-After": "7"}), 7.0),
        (Fault(status=429, headers={"Retry-After": "soon"}), 1.0),
        (Fault(status=429), 1.0),
        (Fault(status=503), 1.0),
        (Fault(status=500), 1.0),
    ],
)
def test_a_busy_cluster_is_a_retry(fault: Fault, after: float) -> None:
    """An answer of 429 or 5xx for the whole request is a Retry after the time it names."""
    with BulkServer() as server, sink_of(server.url) as sink:
        server.faults.append(fault)
        with pytest.raises(Retry) as raised:
            sink.write(part(ROWS))
        assert raised.value.after == pytest.approx(after, abs=0.1)
        assert sink.write(part(ROWS)) == Outcome(12)


@pytest.mark.parametrize(
    "fault", [Fault(reset=True), Fault(keep_bytes=40), Fault(forget_items=1)], ids=["reset", "cut", "short"]
)
def test_a_lost_answer_is_no_lost_or_double_row(fault: Fault) -> None:
    """When documents were applied and the answer is lost, cut off or too short, the repeat finds them there."""
    with BulkServer() as server, sink_of(server.url) as sink:
        server.faults.append(fault)
        with pytest.raises(Retry):
            sink.write(part(ROWS))
        assert sink.write(part(ROWS)) == Outcome(0, 12)
        assert server.documents == documents(ROWS)


def test_a_body_that_is_too_large_is_halved() -> None:
    """After 413 the rows go in smaller requests; a single row that is still too large is refused by name."""
    huge = row(Spot(1, 9, 0), rule=random.Random(1).randbytes(5_000).hex())
    with BulkServer(max_body=1_500) as server, sink_of(server.url) as sink:
        outcome = sink.write(part([*ROWS, huge]))
        assert outcome.written == 12
        assert [(bad.row, bad.code) for bad in outcome.rejected] == [(12, ErrorCode.TOO_LARGE)]
        assert server.documents == documents(ROWS)


def test_requests_keep_to_their_size() -> None:
    """Rows are cut into requests of at most the configured bytes, and all arrive."""
    content = rows(blobs=3, records=10, tuples=40)
    with BulkServer() as server, sink_of(server.url, body_bytes=100_000, in_flight=3) as sink:
        assert sink.write(part(content)) == Outcome(1_200)
        assert server.documents == documents(content)
        assert max(map(len, server.requests)) < 120


def test_a_dead_host_is_passed_over() -> None:
    """With one of two hosts gone, everything is written to the other."""
    with BulkServer() as gone:
        dead = gone.url
    with BulkServer() as server, sink_of(dead, server.url) as sink:
        assert [sink.write(part([values])) for values in ROWS] == [Outcome(1)] * 12
        assert server.documents == documents(ROWS)


def test_days_out_of_bounds_are_refused() -> None:
    """A flow with a broken time opens no index; it is refused by name and its neighbours are written."""
    broken = [row(Spot(0, 8, 0), time=10**14), row(Spot(0, 8, 1), time=-1)]
    with BulkServer() as server, sink_of(server.url) as sink:
        outcome = sink.write(part([*ROWS[:3], *broken, *ROWS[3:]]))
        assert [(bad.row, bad.code) for bad in outcome.rejected] == [(3, ErrorCode.REFUSED), (4, ErrorCode.REFUSED)]
        assert outcome.written == 12
        assert server.documents == documents(ROWS)


@pytest.mark.parametrize(
    ("options", "header"),
    [
        ({"username": "u", "password": "p"}, "Basic dTpw"),
        ({"api_key": "id:key"}, "ApiKey aWQ6a2V5"),
        ({"api_key": "aWQ6a2V5"}, "ApiKey aWQ6a2V5"),
        ({"bearer_token_file": "token"}, "Bearer t0ken"),
    ],
)
def test_ways_to_sign_in(options: dict[str, Any], header: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way to sign in sends its header; without it the sink refuses to start."""
    monkeypatch.chdir(tmp_path)
    Path("token").write_text("t0ken\n", encoding="utf-8")
    with BulkServer(authorization=header) as server:
        with sink_of(server.url, **options) as sink:
            assert sink.write(part(ROWS)) == Outcome(12)
        with pytest.raises(ConfigError, match="denies the sign-in"), sink_of(server.url):
            pass


def test_a_sign_in_that_ends_stops_the_sink() -> None:
    """A refused sign-in in the middle is the operator's to mend: the process stops and commits nothing."""
    with BulkServer() as server, sink_of(server.url) as sink:
        server.authorization = "other"
        with pytest.raises(ConfigError, match="401"):
            sink.write(part(ROWS))


def test_the_template_comes_first() -> None:
    """Without its template the sink does not start and says what to run; after set-up it does."""
    with BulkServer() as server:
        sink = ElasticsearchSink(ElasticsearchSettings(hosts=(server.url,)), FLOWS)
        with pytest.raises(ConfigError, match="blobtide sink-setup NAME` with the name of this sink once"):
            sink.open()
        assert "installed" in sink.setup()
        sink.open()
        sink.close()


def test_an_unreachable_cluster_is_said_at_once() -> None:
    """A wrong address fails at the start, by name."""
    with BulkServer() as gone:
        address = gone.url
    with pytest.raises(ServerUnreachable, match=address), sink_of(address):
        pass
