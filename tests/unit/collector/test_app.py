"""The collector: requests in, each call answered exactly once."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from libs.common.azure.arm.pages import ListCursor, Page
from libs.common.errors import DeadLetterLimit
from libs.common.kafka.records import CommitResult
from libs.common.settings.collector import CollectorSettings
from libs.demo.arm.server import ArmWorld, Reply, error, serving_arm, throttled
from services.collector.backlog import PendingCall, PendingRequest
from services.collector.intake import MOST_REFUSED_IN_A_ROW
from services.collector.requests.items import WorkItem, work_items
from services.collector.requests.schema import read_request
from services.collector.rows import AnswerTooLarge, answer_rows
from tests.collector_world import LIST, CollectorWorld, one, request


@pytest.fixture
def world() -> Iterator[CollectorWorld]:
    """Ten machines, in lists of four a page."""
    arm = ArmWorld(machines=10, page_size=4)
    with serving_arm(arm) as url:
        yield CollectorWorld(arm, url)


def test_each_answer_is_a_row_and_each_call_has_an_end(world: CollectorWorld) -> None:
    """Also those that Azure refuses and those that cannot be made, beside the others; a repeated id does nothing."""
    refused = LIST | {"resource_path": "/subscriptions/unknown/providers/Microsoft.Compute/virtualMachines", "parameters": {}}
    asked = request(
        "m-1",
        *(LIST, one("vm-000003"), one("nobody"), one("../x"), refused, LIST | {"method": "DELETE"}),
        correlation_id="c-1",
        metadata={"why": "nightly"},
        timestamp="2026-05-01T12:00:00Z",
    )
    world.send(asked)
    world.send(asked)
    world.run()
    rows = world.rows()
    listed = [row for row in rows if row["source"] == "m-1/0"]
    assert [(row["kind"], row["answer_number"], row["elements"]) for row in listed] == [
        ("answer", 0, 4), ("answer", 1, 4), ("answer", 2, 2), ("end", 3, None)
    ]  # fmt: skip
    names = [vm["name"] for row in listed[:3] for vm in json.loads(row["data"])["value"]]
    assert names == [f"vm-{index:06}" for index in range(10)]
    assert {(row["message_id"], row["correlation_id"], row["metadata"]) for row in rows} == {
        ("m-1", "c-1", '{"why":"nightly"}')
    }
    assert world.ends() == {
        "m-1/0": ("success", 10), "m-1/1": ("success", 1), "m-1/2": ("error", 0),
        "m-1/3": ("error", 0), "m-1/4": ("error", 0), "m-1/5": ("error", 0),
    }  # fmt: skip
    problems = {row["request_index"]: json.loads(row["errors"])[0] for row in rows if row["errors"]}
    assert [problems[index]["code"] for index in (2, 3, 4, 5)] == [
        "ResourceNotFound", "InvalidRequest", "SubscriptionNotFound", "InvalidRequest"
    ]  # fmt: skip
    assert problems[2]["status"] == 404
    assert problems[2]["request_id"]
    assert len([row for row in rows if row["kind"] == "end"]) == 6, "of the repeated request there is none"
    codes, letters = zip(*world.letters(), strict=True)
    assert codes == ("bad_record", "bad_record"), "what is gone is no dead letter"
    again = read_request(letters[0])
    assert (again.message_id, again.correlation_id, len(again.api_requests)) == ("m-1:3:again", "c-1", 1)
    asked_before = len(world.arm.asked)
    world.send(asked)
    world.run()
    assert (len(world.rows()), len(world.arm.asked)) == (len(rows), asked_before), "another process knows it too"


@pytest.mark.parametrize("query", [{}, {"$filter": "x"}], ids=["resources", "filtered"])
def test_an_answer_that_is_no_text_ends_its_call_only(world: CollectorWorld, query: dict[str, str]) -> None:
    """Not the collector, which would ask for it again and again."""
    world.arm.faults.append(Reply(200, b'{"value": [{"id": "/a/b", "type": "c", "properties": {"d": "\xff"}}]}'))
    world.send(request("m-1", LIST | {"query_params": query}))
    world.run()
    assert world.ends() == {"m-1/0": ("error", 0)}
    assert [code for code, _ in world.letters()] == ["refused"]


def test_the_state_of_a_request_says_how_its_calls_ended(world: CollectorWorld) -> None:
    """Also after another process has continued it; so whoever reads it need not search the rows."""
    world.settings = CollectorSettings(commit_seconds=0.001, concurrency=1)
    world.send(request("m-1", LIST, one("nobody"), one("../x")))
    world.run(until=lambda: any(not progress.is_over for progress in world.progress().values()))
    first = world.progress()["m-1"]
    assert (first.calls, first.outcomes[2].status, first.is_over) == (3, "error", False)
    world.run()
    outcomes = world.progress()["m-1"].outcomes
    assert {index: (one.status, one.pages, one.received) for index, one in outcomes.items()} == {
        0: ("success", 3, 10), 1: ("error", 0, 0), 2: ("error", 0, 0)
    }  # fmt: skip
    problems = [outcomes[index].problem for index in range(3)]
    assert [problem and (problem.code, problem.status) for problem in problems] == [
        None, ("ResourceNotFound", 404), ("InvalidRequest", None)
    ]  # fmt: skip


def test_what_is_refused_for_good_is_a_dead_letter(world: CollectorWorld) -> None:
    """With what Azure says; a list that fails in the middle is a partial failure and never a success."""
    world.arm.faults.extend([None, None, error(403, "AuthorizationFailed")])
    world.send(request("m-1", LIST))
    world.run()
    assert world.ends() == {"m-1/0": ("partial_failure", 8)}
    assert [code for code, _ in world.letters()] == ["refused"]
    assert "role Reader" in world.rows()[-1]["errors"]


@pytest.mark.parametrize("aborted", range(4))
def test_an_aborted_transaction_repeats_what_was_in_it(world: CollectorWorld, aborted: int) -> None:
    """Whichever it is, every page is there once in the end."""

    def prepare(session: object) -> None:
        session.endings.extend([*[CommitResult.COMMITTED] * aborted, CommitResult.ABORTED])  # type: ignore[attr-defined]

    world.prepare = prepare
    world.settings = CollectorSettings(commit_seconds=0.001, concurrency=1)
    world.send(request("m-1", LIST, one("vm-000003")))
    world.send(request("m-2", LIST))
    world.run()
    assert world.ends() == {"m-1/0": ("success", 10), "m-1/1": ("success", 1), "m-2/0": ("success", 10)}
    positions = [(row["source"], row["generation"], row["answer_number"], row["part"]) for row in world.rows()]
    assert len(set(positions)) == len(positions) == 4 + 2 + 4


def test_another_process_continues_in_the_middle_of_a_list(world: CollectorWorld) -> None:
    """With the page after the last one committed: no page is asked for again that is there already."""
    world.arm.machines = 40
    world.settings = CollectorSettings(commit_seconds=0.001, concurrency=1)
    world.send(request("m-1", LIST))
    world.run(until=lambda: len(world.rows()) >= 3)
    before = len(world.rows())
    assert before < 11
    asked = len(world.arm.asked)
    world.run()
    assert world.ends() == {"m-1/0": ("success", 40)}
    assert len(world.rows()) == 11
    assert len(world.arm.asked) - asked <= 11 - before


def test_a_list_whose_page_expires_has_a_new_attempt(world: CollectorWorld) -> None:
    """The end names it, and its answers are complete."""
    world.arm.faults.extend([None, None, error(410, "Gone")])
    world.send(request("m-1", LIST))
    world.run()
    rows = world.rows()
    end = rows[-1]
    assert (end["kind"], end["attempt"], end["received"]) == ("end", 1, 10)
    answers = [row for row in rows if row["kind"] == "answer"]
    assert [row["attempt"] for row in answers] == [0, 0, 1, 1, 1]
    assert len({row["generation"] for row in rows}) == 2


def test_calls_that_azure_throttles_wait_and_others_do_not(world: CollectorWorld) -> None:
    """For as long as Azure asks; the time is in the results. After too long they are given up."""
    elsewhere = LIST | {"parameters": {"id": "11111111-another"}}
    world.arm.faults.append(throttled("600"))
    world.settings = CollectorSettings(commit_seconds=0.001, concurrency=1)
    world.send(request("m-1", LIST))
    world.send(request("m-2", elsewhere))
    world.run(until=lambda: "m-2/0" in world.ends())
    assert list(world.ends()) == ["m-2/0"]
    world.passed = 700.0
    world.run()
    end = next(row for row in world.rows() if row["source"] == "m-1/0" and row["kind"] == "end")
    assert (end["status"], end["received"]) == ("success", 10)
    assert end["waited_ms"] >= 600_000
    world.arm.faults.extend([throttled("600")])
    world.send(request("m-3", LIST))
    world.run(until=lambda: len(world.arm.faults) == 0 and world.session is not None and len(world.session.committed) > 0)
    world.passed += 25 * 3_600
    world.arm.faults.extend([throttled("600")])
    world.run()
    assert world.ends()["m-3/0"] == ("error", 0)
    assert [code for code, _ in world.letters()] == ["refused"]


def test_high_priority_overtakes(world: CollectorWorld) -> None:
    """Of requests that wait, those of a higher priority are answered first."""
    world.settings = CollectorSettings(commit_seconds=0.001, concurrency=1)
    for number, priority in enumerate(("low", "normal", "low", "high")):
        world.send(request(f"m-{number}", LIST, LIST, priority=priority))
    world.run()
    ends = [row["message_id"] for row in world.rows() if row["kind"] == "end"]
    assert ends == ["m-3", "m-3", "m-1", "m-1", "m-0", "m-0", "m-2", "m-2"]


def test_what_is_no_request_is_a_dead_letter(world: CollectorWorld) -> None:
    """With its bytes; a topic of nothing else stops the service."""
    world.send(b'{"message_id": "m-1"}')
    world.send(request("m-2", LIST), key="another")
    world.send(b"{", key="m-3")
    world.send(request("m-4", LIST))
    world.run()
    assert world.letters() == [
        ("bad_record", b'{"message_id": "m-1"}'), ("bad_record", request("m-2", LIST)), ("bad_json", b"{")
    ]  # fmt: skip
    assert list(world.ends()) == ["m-4/0"]
    for _ in range(MOST_REFUSED_IN_A_ROW + 1):
        world.send(b"{", key="x")
    with pytest.raises(DeadLetterLimit, match="right topic"):
        world.run()


def test_an_answer_that_is_too_large_is_divided() -> None:
    """Between its resources; one that is too large by itself is refused."""
    asked = read_request(request("m-1", LIST))
    pending = PendingRequest(record=None, request=asked, calls=1, ended=set())  # type: ignore[arg-type]
    (item,) = work_items(asked)
    assert isinstance(item, WorkItem)
    call = PendingCall(pending, item, ListCursor(), 0.0, 0.0)
    elements = [{"id": "x" * length} for length in (10, 400, 10, 10)]
    body = json.dumps({"value": elements, "nextLink": "y"}).encode()
    rows = answer_rows(call, Page(2, 0, 200, "r", body, 4, 0.0), 0, 450)
    assert [(row["answer_number"], row["part"], row["elements"]) for row in rows] == [(2, 0, 2), (2, 1, 2)]
    parts = [json.loads(row["data"]) for row in rows]
    assert [one for part in parts for one in part["value"]] == elements
    assert [part.get("nextLink") for part in parts] == ["y", None]
    with pytest.raises(AnswerTooLarge, match="larger than a message"):
        answer_rows(call, Page(2, 0, 200, "r", body, 4, 0.0), 0, 100)
