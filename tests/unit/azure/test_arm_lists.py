"""Lists of Azure Resource Manager, read to their last page whatever happens on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from libs.common.azure.arm.api import ArmCall, ArmError, ArmGone, ArmIncomplete, ArmRefused, ArmUnavailable, PageExpired
from libs.common.azure.arm.failures import retry_after
from libs.common.azure.arm.pages import ArmLists, ListCursor, Page
from libs.common.azure.retry import RetryPolicy
from libs.common.http.method import Method
from libs.demo.arm.server import (
    COMPUTE,
    MACHINES,
    SUBSCRIPTION,
    ArmWorld,
    BrokenReply,
    Fault,
    Reply,
    SlowReply,
    error,
    throttled,
)
from tests.arm import WorldTokens, arm_of

VERSION = (("api-version", "2024-07-01"),)
LIST = ArmCall(Method.GET, MACHINES, VERSION)
ONE = ArmCall(
    Method.GET, f"/subscriptions/{SUBSCRIPTION}/resourceGroups/group-3/providers/{COMPUTE}/virtualMachines/vm-000003", VERSION
)
QUERY = json.dumps({"query": "Resources", "subscriptions": [SUBSCRIPTION], "options": {"$top": 4}}).encode()
GRAPH = ArmCall(Method.POST, "/providers/Microsoft.ResourceGraph/resources", (("api-version", "2022-10-01"),), body=QUERY)
START = replace(ONE, method=Method.POST, path=f"{ONE.path}/start")


def names(pages: list[Page]) -> list[str]:
    """Return the names of the machines in pages."""
    bodies = [json.loads(page.body) for page in pages]
    return [one["name"] for body in bodies for one in body.get("value", body.get("data", ()))]


def machines(count: int) -> list[str]:
    """Return the names of the first machines."""
    return [f"vm-{index:06}" for index in range(count)]


@pytest.mark.parametrize("call", [LIST, GRAPH], ids=["list", "query"])
def test_a_list_is_read_to_its_last_page(call: ArmCall) -> None:
    """Every page is handed on as Azure sent it, counted; a query says how many rows there are."""
    with arm_of(ArmWorld(machines=10, page_size=4)) as arm:
        pages = list(arm.pages(call))
        assert names(pages) == machines(10)
        assert [(page.number, page.attempt, page.elements) for page in pages] == [(0, 0, 4), (1, 0, 4), (2, 0, 2)]
        assert len({page.request_id for page in pages}) == 3
        last = arm.step(call, arm.step(call, arm.step(call, ListCursor()).cursor).cursor)
        assert (last.is_last, last.cursor.received) == (True, 10)
        assert last.cursor.expected == (10 if call is GRAPH else None)


def test_a_resource_is_one_page() -> None:
    """So is an empty list, and an answer without a body."""
    world = ArmWorld(machines=10)
    with arm_of(world) as arm:
        (page,) = arm.pages(ONE)
        assert (page.elements, json.loads(page.body)["name"]) == (1, "vm-000003")
        world.faults.extend([Reply(200, {"value": []}), Reply(204), Reply(200, [1, 2]), Reply(200, {"value": "text"})])
        assert [[page.elements for page in arm.pages(ONE)] for _ in range(4)] == [[0], [0], [2], [1]]


@pytest.mark.parametrize(
    "fault",
    [
        throttled("0"),
        throttled("1"),
        error(503, "ServiceUnavailable"),
        error(500, "InternalServerError"),
        error(409, "Conflict"),
        BrokenReply(),
        BrokenReply(in_body=True),
        SlowReply(0.01),
    ],
    ids=lambda fault: f"{type(fault).__name__}{getattr(fault, 'status', '')}",
)
def test_what_passes_is_waited_for(fault: Fault) -> None:
    """In the middle of a list, the page that failed is asked for again, and no other."""
    world = ArmWorld(machines=10, page_size=4)
    world.faults.extend([None, fault])
    patient = RetryPolicy(deadline=30.0, first_wait=0.01, longest_wait=0.05)
    with arm_of(world, policy=patient) as arm:
        pages = list(arm.pages(LIST))
    assert names(pages) == machines(10)
    assert len(world.asked) == (3 if isinstance(fault, SlowReply) else 4)
    waited = [page.waited > 0 for page in pages]
    assert waited[0] is False
    assert waited[1] is not isinstance(fault, SlowReply)


def test_long_pauses_are_left_to_the_caller() -> None:
    """It is told how long, and continues at the page where it stopped."""
    world = ArmWorld(machines=10, page_size=4)
    world.faults.extend([None, throttled("600")])
    with arm_of(world) as arm:
        step = arm.step(LIST, ListCursor())
        for _ in range(2):
            with pytest.raises(ArmUnavailable) as away:
                arm.step(LIST, step.cursor)
            assert 590 < away.value.after <= 660
    assert len(world.asked) == 2, "the second attempt does not even ask"


@pytest.mark.parametrize("call", [LIST, GRAPH], ids=["list", "query"])
def test_an_expired_page_begins_the_list_anew(call: ArmCall) -> None:
    """The pages of the new attempt are complete and say that they are others; it is not tried for ever."""
    world = ArmWorld(machines=10, page_size=4)
    with arm_of(world) as arm:
        pages = []
        for page in arm.pages(call):
            pages.append(page)
            world.epoch += len(pages) == 2
        assert [page.attempt for page in pages] == [0, 0, 1, 1, 1]
        assert names(pages[2:]) == machines(10)
        with pytest.raises(PageExpired, match="4 times"):
            list(expiring(arm.pages(call), world))


def expiring(pages: Iterable[Page], world: ArmWorld) -> Iterator[Page]:
    """Yield pages; the link to the next one is no longer valid when it is asked for."""
    for page in pages:
        world.epoch += 1
        yield page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda link: link.replace("127.0.0.1", "127.0.0.2"), "does not lead to"),
        (lambda link: link.replace("http:", "https:"), "does not lead to"),
        (lambda link: link.replace("http://", "http://user@"), "does not lead to"),
        (lambda link: link.replace("127.0.0.1:", "127.0.0.1:1"), "does not lead to"),
        (lambda link: f"/{link[:0]}subscriptions", "does not lead to"),
        (lambda link: link + "\n", "does not lead to"),
        (lambda link: f"http://[{link[:0]}", "does not lead to"),
        (lambda link: link.replace("skiptoken=8", "skiptoken=4"), "came before"),
        (lambda link: link.replace("skiptoken=32", "skiptoken=12"), "came before"),
    ],
)
def test_a_link_is_followed_only_on_the_same_host_and_once(change: Callable[[str], str], said: str) -> None:
    """Otherwise the list is incomplete, and never ends as a success."""
    world = ArmWorld(machines=100, page_size=4, next_link=change)
    with arm_of(world) as arm, pytest.raises(ArmIncomplete, match=said):
        list(arm.pages(LIST))
    assert len(world.asked) < 40


def test_a_list_without_an_end_is_given_up() -> None:
    """After as many pages as are allowed."""
    with (
        arm_of(ArmWorld(machines=1_000, page_size=1), most_pages=5) as arm,
        pytest.raises(ArmIncomplete, match="more than 5 pages"),
    ):
        list(arm.pages(LIST))


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        (error(404, "ResourceNotFound"), ArmGone, "404 ResourceNotFound: said by Azure"),
        (error(403, "AuthorizationFailed"), ArmRefused, "role Reader"),
        (error(400, "NoRegisteredProviderFound"), ArmRefused, "correct api_version"),
        (error(409, "MissingSubscriptionRegistration"), ArmRefused, "register the resource provider"),
        (error(404, "InvalidResourceType"), ArmRefused, "correct api_version"),
        (error(302, "Moved", Location="http://elsewhere.example/"), ArmRefused, "redirects are not followed"),
        (Reply(400, b"\xff<html>"), ArmRefused, "Azure answers 400"),
        (Reply(400, b"[" * 50_000), ArmRefused, "Azure answers 400"),
        (Reply(400, {"code": "Bad Code", "message": "Bearer abcdefgh12345"}), ArmRefused, r"Bearer \*\*\*"),
        (Reply(200, b"<html>"), ArmRefused, "not as documented"),
        (Reply(200, b"[" * 1_000_000), ArmRefused, "not as documented"),
        (Reply(200, b'{"value": [{"properties": "\xff"}]}'), ArmRefused, "not as documented"),
        (Reply(200, {"value": [], "nextLink": 7}), ArmRefused, "not as documented"),
    ],
)
def test_what_does_not_pass_is_not_repeated(fault: Reply, kind: type[ArmError], said: str) -> None:
    """The error says what Azure says and what to do; nothing of it obeys a terminal, and no credential is in it."""
    world = ArmWorld()
    world.faults.append(fault)
    with arm_of(world) as arm, pytest.raises(kind, match=said) as refused:
        list(arm.pages(LIST))
    assert len(world.asked) == 1
    assert type(refused.value) is kind
    assert "token-1" not in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_refused_token_is_renewed_once() -> None:
    """With the claims that the challenge demands; if there is no other token, the refusal counts."""
    world = ArmWorld(machines=3)
    tokens = WorldTokens(world)
    with arm_of(world, tokens) as arm:
        world.tokens[:] = ["token-2"]
        assert names(list(arm.pages(LIST))) == machines(3)
        demanding = 'Bearer error="insufficient_claims", claims="eyJhIjp7fX0"'
        world.faults.append(error(401, "InvalidAuthenticationToken", WWW_Authenticate=demanding))
        with pytest.raises(ArmRefused, match="401 InvalidAuthenticationToken"):
            list(arm.pages(LIST))
    assert tokens.renewals == [None, '{"a":{}}']
    assert len(world.asked) == 3


def test_an_operation_is_followed_to_its_result() -> None:
    """By the header that tells its state, or by the one that has its result; without a result there is an empty answer."""
    world = ArmWorld(polls=2)
    with arm_of(world) as arm:
        (page,) = arm.pages(START)
        assert json.loads(page.body) == {"started": True}
        (page,) = arm.pages(replace(START, path=f"{ONE.path}/powerOff"))
        assert json.loads(page.body) == {"started": True}
        (page,) = arm.pages(replace(ONE, method=Method.PUT, body=b"{}"))
        assert json.loads(page.body)["name"] == "vm-000003", "of a resource that was written, what it is now"
        world.operation_state = "Failed"
        with pytest.raises(ArmRefused, match="the operation failed: 200 AllocationFailed: no room"):
            list(arm.pages(START))
        assert all("api-version" in asked.query for asked in world.asked)


@pytest.mark.parametrize("fault", [BrokenReply(), error(500, "InternalServerError")])
def test_what_may_have_been_done_is_not_done_twice(fault: Fault) -> None:
    """A POST that changes something is sent again only if Azure refused it; queries and everything else are repeated."""
    world = ArmWorld(polls=0)
    with arm_of(world) as arm:
        world.faults.append(fault)
        with pytest.raises(ArmRefused, match="not repeated"):
            list(arm.pages(START))
        world.faults.append(throttled())
        assert len(list(arm.pages(START))) == 1
        world.faults.append(fault)
        assert names(list(arm.pages(GRAPH))) == machines(10)


def test_a_truncated_answer_of_resource_graph_is_no_success() -> None:
    """Rows that are missing are not passed over."""
    body: dict[str, Any] = {"totalRecords": 9, "count": 1, "data": [{}], "resultTruncated": "true"}
    world = ArmWorld()
    with arm_of(world) as arm:
        world.faults.extend([Reply(200, body), Reply(200, body | {"resultTruncated": "false", "count": 2})])
        for said in ("cut off", "announces 2 rows"):
            with pytest.raises(ArmRefused, match=said):
                list(arm.pages(GRAPH))


@pytest.mark.parametrize("call", [LIST, GRAPH], ids=["list", "query"])
@pytest.mark.parametrize(
    "page", [Reply(204), Reply(200), Reply(200, {}), Reply(200, {"error": {"code": "x"}}), Reply(200, "text")]
)
def test_a_further_page_that_is_no_list_does_not_end_the_list(call: ArmCall, page: Reply) -> None:
    """What was to follow is missing, whatever its status says."""
    world = ArmWorld(machines=10, page_size=4)
    world.faults.extend([None, page])
    with arm_of(world) as arm, pytest.raises(ArmRefused, match="not as documented"):
        list(arm.pages(call))


def test_closing_ends_waits() -> None:
    """A process that stops does not sit in a pause."""
    world = ArmWorld()
    world.faults.append(throttled("3"))
    with arm_of(world, policy=RetryPolicy(deadline=60.0)) as arm:
        arm._client.close()
        with pytest.raises(ArmUnavailable, match="closing"):
            list(arm.pages(LIST))


def test_pauses_are_read_as_seconds_or_as_a_date() -> None:
    """Whatever else stands there is no pause."""
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    said = ("7", "Fri, 01 May 2026 12:00:09 GMT", "Fri, 01 May 2020 12:00:09 GMT", "99999999", "soon", "-1", "")
    assert [retry_after({"Retry-After": text}, now) for text in said] == [7.0, 9.0, 0.0, 3_600.0, None, None, None]


def test_a_place_survives_the_process() -> None:
    """It is a value: another client continues where it was left."""
    world = ArmWorld(machines=10, page_size=4)
    with arm_of(world) as arm:
        step = arm.step(LIST, ListCursor())
        rest = ArmLists(arm._client).step(LIST, replace(step.cursor))
    assert rest.page is not None
    assert names([rest.page]) == machines(10)[4:8]
