"""The table of known resources: what it tells of each, which ones a list lacks, and that it stays small."""

from __future__ import annotations

import tracemalloc

import pytest

from libs.common.messages.resources import ResourceFacts, key_of
from services.collector.known_resources import NOWHERE, KnownResources, RecordPlace

SUB = "/subscriptions/1"
GROUP = f"{SUB}/resourceGroups/Group"


def facts(resource_id: str, kind: str, content: int = 1) -> ResourceFacts:
    """Return a resource of subscription 1, first seen at 7."""
    digest = f"{content:016x}{'0' * 16}"
    return ResourceFacts(
        id=resource_id, time=9, first_seen=7, api_version="1", type=kind, subscription="1", content_hash=digest
    )


def machine(number: int, content: int = 1) -> ResourceFacts:
    """Return a virtual machine."""
    return facts(f"{GROUP}/providers/Ms.Compute/virtualMachines/VM-{number}", "Ms.Compute/virtualMachines", content)


def test_what_is_known_is_told_by_key() -> None:
    """Its content and first sight, and where its record is; nothing of what is unknown or removed."""
    known = KnownResources()
    known.put(machine(0), 1, RecordPlace(3, 12))
    known.put(machine(1), 1)
    known.put(machine(2), 1)
    known.remove(machine(2).key)
    first, second, removed, unknown = known.see([machine(number).key for number in range(4)], 2)
    assert first is not None
    assert second is not None
    assert (first.first_seen, first.place, second.place.offset) == (7, RecordPlace(3, 12), NOWHERE)
    assert first.is_same(machine(0))
    assert not first.is_same(machine(0, content=2))
    assert removed is unknown is None


@pytest.mark.parametrize(
    ("path", "lacks"),
    [
        (f"{SUB}/providers/ms.compute/virtualmachines", "virtualMachines/VM-1"),
        (f"{GROUP}/providers/ms.compute/virtualmachines".lower(), "virtualMachines/VM-1"),
        (f"{GROUP}/providers/ms.net/vnets/v/subnets".lower(), "subnets/s"),
        (f"{SUB}/resourcegroups", "resourceGroups/other"),
        (f"{SUB}/providers/ms.sql/servers", None),
        ("/subscriptions/2/providers/ms.compute/virtualmachines", None),
    ],
)
def test_a_list_lacks_what_was_seen_before_it_began(path: str, lacks: str | None) -> None:
    """What it would have by its path: resources of a subscription and type, or those directly below it."""
    known = KnownResources()
    for one in (
        machine(0),
        machine(1),
        facts(f"{GROUP}/providers/Ms.Net/vnets/v/subnets/s", "Ms.Net/vnets/subnets"),
        facts(f"{GROUP}/providers/Ms.Net/vnets/w/subnets/s", "Ms.Net/vnets/subnets"),
        facts(f"{SUB}/resourceGroups/other", "Ms.Resources/resourceGroups"),
    ):
        known.put(one, 1)
    known.see([machine(0).key], 2)
    missing = [(one.endswith(lacks or "-"), resource.first_seen) for one, resource in known.listed(path, 2).lacking]
    assert missing == ([] if lacks is None else [(True, 7)])


def test_resources_that_come_and_go_leave_nothing_behind() -> None:
    """However many there have been, and whatever their groups were named, those that are there keep their ids."""
    known = KnownResources()
    for number in range(5):
        known.put(machine(number), 1)
    tracemalloc.start()
    for number in range(15_000):
        passing = facts(f"{SUB}/resourceGroups/group-{number}/providers/ms.sql/servers/{number:060}", "ms.sql/servers")
        known.put(passing, 1)
        known.remove(passing.key)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4_000_000
    found = {one for one, _ in known.listed(f"{SUB}/providers/ms.compute/virtualmachines", 2).lacking}
    assert found == {machine(number).id for number in range(5)}
    assert [one is not None for one in known.see([key_of(one) for one in found], 2)] == [True] * 5
