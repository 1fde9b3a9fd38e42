"""What the collector knows of resources: written when they are new, different or gone, and not otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from libs.common.azure.arm.api import ArmCall
from libs.common.azure.arm.pages import Page
from libs.common.errors import CodecError
from libs.common.http.method import Method
from libs.common.kafka.records import CommitResult, Inbound
from libs.common.messages.resources import decode_resource, encode_resource
from libs.common.rows.reading import reader_of
from libs.common.rows.types.resources import RESOURCES
from libs.common.settings.collector import CollectorSettings
from libs.demo.arm.server import SUBSCRIPTION, ArmWorld, error, serving_arm, throttled
from services.collector.comparing import Comparison
from services.collector.resources import resources_in, type_listed_by
from tests.collector_world import LIST, CollectorWorld, one, request

SUB = f"/subscriptions/{SUBSCRIPTION}"


@pytest.fixture
def world() -> Iterator[CollectorWorld]:
    """Three machines, in lists of two a page."""
    arm = ArmWorld(machines=3, page_size=2)
    with serving_arm(arm) as url:
        yield CollectorWorld(arm, url)


def ask(world: CollectorWorld, number: int, *calls: dict[str, object], **more: object) -> list[tuple[str, str]]:
    """Send a request and return name and state of the resources that are written because of it."""
    before = len(world.resources())
    world.send(request(f"m-{number}", *(calls or (LIST,)), **more))
    world.run()
    return world.resources()[before:]


def names(*numbers: int, state: str = "present") -> list[tuple[str, str]]:
    """Return what is written about these machines."""
    return [(f"vm-{number:06}", state) for number in numbers]


def test_only_what_is_new_different_or_gone_is_written(world: CollectorWorld) -> None:
    """Also by another process; the time at which it was first seen stays until it is gone. What comes back is new."""
    assert ask(world, 0) == names(0, 1, 2)
    first = world.resource_rows()[0]
    assert (first["type"], first["location"], first["resource_group"]) == (
        "Microsoft.Compute/virtualMachines",
        "westeurope",
        "group-0",
    )
    assert (first["subscription"], first["resource_group"]) == (SUBSCRIPTION, "group-0")
    assert (json.loads(first["tags"]), first["api_version"]) == ({"owner": "team-0"}, "2024-07-01")
    assert json.loads(first["properties"])["hardwareProfile"] == {"vmSize": "Standard_D2s_v5"}
    assert ask(world, 1) == []
    world.passed = 60.0
    world.arm.size = "Standard_D4s_v5"
    assert ask(world, 2, one("vm-000000")) == names(0)
    changed = world.resource_rows()[-1]
    assert changed["first_seen"] == first["first_seen"] < changed["time"]
    assert changed["content_hash"] != first["content_hash"]
    world.arm.gone = frozenset({1})
    assert ask(world, 3) == [*names(2), *names(1, state="deleted")]
    assert (world.resource_rows()[-1]["content_hash"], world.resource_rows()[-1]["first_seen"]) == (None, first["first_seen"])
    assert ask(world, 4) == [], "what is gone is gone once"
    world.arm.gone = frozenset()
    assert ask(world, 5) == names(1)
    assert world.resource_rows()[-1]["first_seen"] == world.resource_rows()[-1]["time"]


def test_only_a_complete_list_shows_that_something_is_gone(world: CollectorWorld) -> None:
    """Not one that fails in the middle, has a filter, is of another place, or is continued by another process."""
    assert ask(world, 0) == names(0, 1, 2)
    world.arm.gone = frozenset({0})
    world.arm.faults.extend([None, error(403, "AuthorizationFailed")])
    assert ask(world, 1) == []
    assert ask(world, 2, LIST | {"query_params": {"$filter": "x"}}) == []
    elsewhere = LIST | {"parameters": {"id": "11111111-another"}}
    assert [state for _, state in ask(world, 3, elsewhere)] == ["present", "present"]
    world.arm.faults.extend([None, throttled("600")])
    world.send(request("m-4", LIST))
    rows = len(world.rows())
    world.run(until=lambda: len(world.rows()) > rows)
    world.passed = 700.0
    world.run()
    assert world.ends()["m-4/0"] == ("success", 2), "another process has read the last page"
    assert ("vm-000000", "deleted") not in world.resources()
    assert ask(world, 5) == names(0, state="deleted")


@pytest.mark.parametrize("aborted", [0, 1, 2])
def test_changes_of_an_aborted_transaction_are_not_forgotten(world: CollectorWorld, aborted: int) -> None:
    """They are written when the work is repeated."""

    def prepare(session: object) -> None:
        session.endings.extend([*[CommitResult.COMMITTED] * aborted, CommitResult.ABORTED])  # type: ignore[attr-defined]

    world.prepare = prepare
    world.settings = CollectorSettings(commit_seconds=0.001, concurrency=1)
    assert ask(world, 0) == names(0, 1, 2)


GROUP = f"{SUB}/resourcegroups/g/providers"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (f"{SUB}/providers/ms.sql/servers", "ms.sql/servers"),
        (f"{GROUP}/ms.sql/servers", "ms.sql/servers"),
        (f"{GROUP}/ms.net/vnets/v/subnets", "ms.net/vnets/subnets"),
    ],
)
def test_a_list_is_of_one_type(path: str, kind: str) -> None:
    """Of a subscription, a resource group, or what is inside a resource."""
    assert type_listed_by(path) == kind


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b'{"id":"/a"}', b"\xff", b'{"id":"/a","time":1e400}'])
def test_a_message_that_is_no_resource_is_no_row(value: bytes | None) -> None:
    """It becomes a dead letter of whoever reads it."""
    with pytest.raises(CodecError, match="not a resource"):
        reader_of(RESOURCES, lambda _: "id")(Inbound("Meta.Resources", 0, 0, 0, b"k", value, ()))


def test_everything_that_azure_says_is_kept() -> None:
    """Also members without a column of their own, and of what has no properties; the hash leaves out what is ignored."""
    path = f"{SUB}/resourceGroups/g/providers/Microsoft.Compute/disks"
    first = {"id": f"{path}/a", "type": "Microsoft.Compute/disks", "name": "a", "zones": ["1"], "etag": "1"}
    second = {"id": f"{path}/a", "type": "microsoft.compute/disks", "etag": "2", "zones": ["1"], "name": "a"}
    body = json.dumps({"value": [first, second]}).encode()
    call = ArmCall(Method.GET, path, (("api-version", "1"),))
    seen = resources_in(call, Page(0, 0, 200, "", body, 2, 0.0), Comparison.of(("etag",)), 7)
    assert seen.is_list
    facts = [decode_resource(encode_resource(each)) for each in seen.resources]
    assert [json.loads(bytes(each.other)) for each in facts] == [{"zones": ["1"], "etag": "1"}, {"etag": "2", "zones": ["1"]}]
    assert facts[0].content_hash == facts[1].content_hash
    assert facts[0].content() == {"name": "a", "zones": ["1"], "etag": "1"}
