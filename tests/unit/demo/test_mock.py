"""The Azure and the network of the demo, as the collector and the recorder find them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from libs.common.settings.recorder import HttpSourceSettings, SourcePreset
from libs.demo.arm.estate_world import CHANGE_SECONDS, PHASES, EstateWorld
from libs.demo.arm.server import ReceivedRequest, Reply, serving_arm
from libs.demo.commits import collect
from libs.demo.estate import Estate
from libs.demo.mock import MockWorld
from libs.demo.spec import EstateSpec
from services.cli.config.checks import ask_source
from services.collector.requests.items import WorkItem, work_items
from services.collector.requests.schema import CollectionRequest
from services.collector.requests.templates import TEMPLATES, calls_of

SPEC = EstateSpec(nics=60, minutes=2, tuples_per_minute=20)
VALUES = {"resourceGroup": "rg-demo", "virtualNetwork": "vnet-0", "server": "sql-0"}
MACHINE = "/subscriptions/{}/resourceGroups/rg-demo/providers/Microsoft.Compute/virtualMachines/x"
INTERFACES = "Microsoft.Network/networkInterfaces"


class _Clock:
    """A clock that shows what it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def ask(world: EstateWorld, path: str, method: str = "GET", body: bytes = b"") -> Reply:
    """Ask with a valid token."""
    query = {"api-version": "2024-07-01"}
    return world.answer(ReceivedRequest(method, path, query, {"authorization": "Bearer token-1"}, body))


def listed(world: EstateWorld, kind: str) -> dict[str, Any]:
    """Return the resources of a kind in all subscriptions, by name."""
    pages = [ask(world, f"/subscriptions/{one}/providers/{kind}").body["value"] for one in world.subscriptions]
    return {resource["name"]: resource for page in pages for resource in page}


def _items(subscription: str) -> Iterator[WorkItem]:
    calls = calls_of(TEMPLATES, [subscription], VALUES)
    for item in work_items(CollectionRequest(message_id="all", api_requests=calls)):
        assert isinstance(item, WorkItem)
        yield item


def test_every_flow_has_an_address_of_an_interface() -> None:
    """Whoever looks up the addresses of a flow finds the interface, whose machine and network exist as well."""
    world = EstateWorld(SPEC, lambda: 0.0)
    interfaces = listed(world, INTERFACES)
    assert len(interfaces) == SPEC.nics
    assert len(world.subscriptions) == 2, "one for each region"
    addresses = {
        configuration["properties"]["privateIPAddress"]
        for interface in interfaces.values()
        for configuration in interface["properties"]["ipConfigurations"]
    }
    truth = collect(Estate(SPEC).commits()).truth
    ends = zip(truth["src_ip"].to_pylist(), truth["dst_ip"].to_pylist(), strict=True)
    assert all(addresses & set(pair) for pair in ends)
    known = {one["id"] for one in world._known()}
    assert {one["properties"]["virtualMachine"]["id"] for one in interfaces.values()} < known
    assert {one["properties"]["networkSecurityGroup"]["id"] for one in interfaces.values()} < known
    assert truth.num_rows > SPEC.nics, "there are flows"


def test_every_template_finds_something() -> None:
    """Lists of subscriptions, of what is inside a resource, and the query of Resource Graph."""
    world = MockWorld(EstateSpec(nics=4))
    for item in _items(world.subscriptions[0]):
        reply = ask(world, item.call.path, item.call.method, item.call.body or b"")
        assert reply.status == 200, item.call.path
        assert reply.body.get("value") or reply.body.get("data"), item.call.path
    one = listed(world, INTERFACES)["nic-0"]
    assert ask(world, one["id"].upper()).body == one, "also by itself, in whatever case its id is written"


@pytest.mark.parametrize(
    ("path", "method", "code"),
    [
        ("/subscriptions/{}/providers/Microsoft.Compute/disks", "GET", "NoRegisteredProviderFound"),
        (MACHINE, "GET", "ResourceNotFound"),
        (
            "/subscriptions/{}/resourceGroups/rg-demo/providers/Microsoft.Compute/virtualMachines/x",
            "PUT",
            "AuthorizationFailed",
        ),
        ("/subscriptions/other/providers/Microsoft.Compute/virtualMachines", "GET", "SubscriptionNotFound"),
        ("/", "GET", "SubscriptionNotFound"),
    ],
    ids=["type", "resource", "method", "subscription", "path"],
)
def test_what_is_not_in_the_demo_is_refused_as_azure_does(path: str, method: str, code: str) -> None:
    """With an error that has a code."""
    world = EstateWorld(EstateSpec(nics=1))
    reply = ask(world, path.format(world.subscriptions[0]), method)
    assert reply.status >= 400
    assert reply.body["error"]["code"] == code


def test_something_changes_every_few_seconds_and_begins_again() -> None:
    """A machine appears, a rule changes, a group goes, a tag and a size change; then all is as before."""
    clock = _Clock()
    world = EstateWorld(EstateSpec(nics=4), clock)
    seen = []
    for phase in range(PHASES + 1):
        clock.now = phase * CHANGE_SECONDS
        seen.append({one["id"].rpartition("/")[2]: one for one in world.resources})
    changes = [
        {
            *(f"+{name}" for name in after.keys() - before.keys()),
            *(f"-{name}" for name in before.keys() - after.keys()),
            *(f"~{name}" for name in before.keys() & after.keys() if before[name] != after[name]),
        }
        for before, after in itertools.pairwise(seen)
    ]
    assert changes[:-1] == [{"+vm-4", "+nic-4"}, {"~nsg-vnet-0"}, {"-nsg-legacy-0"}, {"~vm-0"}, {"~vm-4"}]
    assert seen[-1] == seen[0]


def test_a_seed_gives_one_azure() -> None:
    """The same spec gives the same resources, another seed gives others."""
    one, same, other = (EstateWorld(EstateSpec(seed=seed), lambda: 0.0) for seed in (1, 1, 2))
    assert one.resources == same.resources
    assert {resource["id"] for resource in one.resources}.isdisjoint(resource["id"] for resource in other.resources)


@pytest.mark.parametrize("preset", list(SourcePreset))
def test_the_recorder_records_the_network_with_its_presets(preset: SourcePreset) -> None:
    """Over HTTP, without signing in; a second has one answer."""
    world = MockWorld(EstateSpec(nics=4), lambda: 1_000.0)
    with serving_arm(world) as url:
        assert ask_source(HttpSourceSettings.model_validate({"preset": preset, "url": url})).startswith("1 record from ")
    flows, graph = (ask(world, f"/ndt/get_{what}_data").body for what in ("detected_flow", "graph"))
    hosts = {address for node in graph["nodes"] for address in node["ip"]}
    assert {flow["src_ip"] for flow in flows} == hosts
    assert len(graph["edges"]) == 2 * len(hosts)
