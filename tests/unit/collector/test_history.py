"""The history of resources: what is written because of what is seen, and what that says about the state before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec
import pytest

from libs.common.azure.arm.api import ArmCall
from libs.common.errors import CodecError
from libs.common.http.method import Method
from libs.common.kafka.records import CommitResult, Inbound, TopicPartition
from libs.common.messages.resource_changes import ResourceChange, decode_change
from libs.common.messages.resources import ResourceFacts, decode_resource, encode_resource
from libs.common.rows.reading import reader_of
from libs.common.rows.types.resource_changes import RESOURCE_CHANGES
from libs.common.settings.collector import CollectorSettings
from libs.demo.arm.server import SUBSCRIPTION, ArmWorld, serving_arm
from services.collector.comparing import Comparison
from services.collector.history import ResourceHistory, Sighting
from services.collector.inventory import Inventory, InventoryRules
from services.collector.resources import SeenPage
from tests.collector_world import LIST, TOPICS, CollectorWorld, CommittedRecords, CommittedTable, one, request

HOUR = 3_600_000
KIND = "Ms.Compute/disks"
PATH = f"/subscriptions/1/providers/{KIND}"


def disk(name: str, size: int, now_ms: int = 1_000) -> ResourceFacts:
    """Return a disk as it is seen."""
    facts = ResourceFacts(
        id=f"/subscriptions/1/resourceGroups/g/providers/{KIND}/{name}",
        time=now_ms,
        first_seen=now_ms,
        last_seen=now_ms,
        api_version="1",
        type=KIND,
        name=name,
        subscription="1",
        properties=msgspec.Raw(b'{"size":%d}' % size),
    )
    return msgspec.structs.replace(facts, content_hash=f"{size:032x}"[::-1])


@dataclass
class HistoryWorld:
    """A topic of resources, and collectors that know it."""

    records: list[Inbound] = field(default_factory=list)
    changes: list[ResourceChange] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)

    def collector(self) -> OneCollector:
        """Return one more."""
        inventory = Inventory(self._table, 1.0, InventoryRules(24 * HOUR, 0.5, 3))
        inventory.load(lambda: None)
        return OneCollector(self, inventory)

    def kept(self) -> list[Inbound]:
        """Return the records that have not been lost."""
        return [record for record in self.records if record.offset not in self.lost]

    def states(self) -> list[tuple[str | None, str, int, int, int]]:
        """Return name, state, time, and first and last sight of all records."""
        facts = [decode_resource(record.value or b"") for record in self.records]
        return [(each.name, each.state, each.time, each.first_seen, each.last_seen) for each in facts]

    def told(self) -> list[tuple[str | None, str, list[tuple[str, str | None, str | None]]]]:
        """Return name, kind and paths with old and new value of all changes."""
        return [(each.name, each.change, [(path.path, path.old, path.new) for path in each.paths]) for each in self.changes]

    def _table(self, apply: Callable[[Inbound], None]) -> CommittedTable:
        return CommittedTable(lambda: self.records, apply)


@dataclass
class OneCollector:
    """What one collector sees and writes."""

    world: HistoryWorld
    inventory: Inventory
    pending: list[Sighting] = field(default_factory=list)
    asked: int = 0

    def sees(self, *facts: ResourceFacts) -> None:
        """See resources by themselves."""
        self._add(self.inventory.changed("", 1, 0, SeenPage(facts, is_list=False)))

    def lists(self, *facts: ResourceFacts, now_ms: int = 5_000) -> None:
        """Read a list from its first to its last page."""
        self.asked += 1
        self._add(self.inventory.changed(f"item-{self.asked}", 0, 0, SeenPage(facts, is_list=True)))
        call = ArmCall(Method.GET, PATH, (("api-version", "1"),))
        self._add(self.inventory.gone(f"item-{self.asked}", call, now_ms))

    def commits(self) -> None:
        """Write what is pending."""
        records = CommittedRecords(self.world.kept)
        history = ResourceHistory(TOPICS, records, Comparison(), 1.0)
        written = list(history.write(self.inventory, self.pending, lambda: None))
        self.pending = []
        for state in written:
            for record in state.records:
                if record.topic == TOPICS.resources:
                    offset = len(self.world.records)
                    self.world.records.append(Inbound(record.topic, 0, offset, 0, record.key, record.value, ()))
                else:
                    self.world.changes.append(decode_change(record.value or b""))

    def _add(self, states: Iterator[ResourceFacts]) -> None:
        self.pending += [Sighting(facts, TopicPartition("requests", 0), "m-1", 2) for facts in states]


def test_each_state_is_compared_with_the_one_before() -> None:
    """Also in the same transaction, in the next one, and by a collector that has just started."""
    world = HistoryWorld()
    first = world.collector()
    first.sees(disk("a", 1))
    first.sees(disk("a", 2))
    first.commits()
    first.sees(disk("a", 3), disk("b", 3))
    first.commits()
    other = world.collector()
    other.sees(disk("a", 4))
    other.commits()
    assert world.told() == [
        ("a", "created", []),
        ("a", "changed", [("/properties/size", "1", "2")]),
        ("a", "changed", [("/properties/size", "2", "3")]),
        ("b", "created", []),
        ("a", "changed", [("/properties/size", "3", "4")]),
    ]
    last = world.changes[-1]
    assert (last.old_hash, last.new_hash) == (disk("a", 3).content_hash, disk("a", 4).content_hash)
    assert (last.message_id, last.request_index, last.api_version, last.subscription) == ("m-1", 2, "1", "1")


def test_what_another_collector_has_written_meanwhile_is_not_written_again() -> None:
    """What differs from it is compared with it."""
    world = HistoryWorld()
    first, second = world.collector(), world.collector()
    for collector in (first, second):
        collector.sees(disk("a", 1), disk("b", 1))
    first.commits()
    second.sees(disk("b", 2))
    second.commits()
    assert world.told()[2:] == [("b", "changed", [("/properties/size", "1", "2")])]
    for collector in (first, second):
        collector.lists(disk("a", 1))
    first.commits()
    second.commits()
    assert world.told()[3:] == [("b", "deleted", [])]
    first.sees(disk("a", 1))
    second.sees(disk("a", 1))
    assert first.pending == second.pending == []


def test_a_resource_whose_former_record_is_lost_has_changed_in_an_unknown_way() -> None:
    """Nothing is made up."""
    world = HistoryWorld()
    collector = world.collector()
    collector.sees(disk("a", 1))
    collector.commits()
    world.lost.add(0)
    collector.sees(disk("a", 2))
    collector.commits()
    assert world.told()[1:] == [("a", "unknown", [])]


def test_a_resource_that_does_not_change_is_confirmed_rarely() -> None:
    """With the time since which it is as it is, and without a change."""
    world = HistoryWorld()
    collector = world.collector()
    for hours in (0, 23, 25, 48, 50):
        collector.sees(disk("a", 1, hours * HOUR))
        collector.commits()
    assert world.states() == [("a", "present", 0, 0, last * HOUR) for last in (0, 25, 50)]
    collector.sees(disk("a", 2, 51 * HOUR))
    collector.commits()
    assert world.states()[-1] == ("a", "present", 51 * HOUR, 0, 51 * HOUR)
    assert [change for _, change, _ in world.told()] == ["created", "changed"]


def test_a_list_that_lacks_very_much_is_not_believed_at_once() -> None:
    """What it lacks is missing, and gone if the next one lacks it, too; whoever reads that one."""
    world = HistoryWorld()
    everything = [disk(name, 1) for name in "abcde"]
    first = world.collector()
    first.lists(*everything)
    first.commits()
    first.lists(*everything[3:], now_ms=6_000)
    first.commits()
    assert sorted(world.states()[5:]) == [(name, "missing", 6_000, 1_000, 1_000) for name in "abc"]
    assert decode_resource(world.records[-1].value or b"").content().keys() == disk("c", 1).content().keys()
    second = world.collector()
    second.lists(*everything[2:], now_ms=7_000)
    second.commits()
    assert world.states()[8] == ("c", "present", 1_000, 1_000, 1_000)
    assert sorted(world.states()[9:]) == [
        *((name, "deleted", 7_000, 1_000, 1_000) for name in "ab"),
    ]
    assert sorted((name, change) for name, change, _ in world.told()[5:]) == [("a", "deleted"), ("b", "deleted")]


def test_what_a_list_lacks_is_not_gone_because_of_one_that_had_begun_before() -> None:
    """Only a list that begins after something is missing confirms it."""
    world = HistoryWorld()
    collector = world.collector()
    collector.lists(*(disk(name, 1) for name in "abc"))
    collector.commits()
    begun = collector.inventory.changed("slow", 0, 0, SeenPage((), is_list=True))
    assert list(begun) == []
    collector.lists()
    call = ArmCall(Method.GET, PATH, (("api-version", "1"),))
    assert list(collector.inventory.gone("slow", call, 9_000)) == []
    collector.commits()
    assert [state for _, state, *_ in world.states()[3:]] == ["missing"] * 3
    collector.lists()
    collector.commits()
    assert [state for _, state, *_ in world.states()[6:]] == ["deleted"] * 3


@pytest.fixture
def world() -> Iterator[CollectorWorld]:
    """Three machines."""
    arm = ArmWorld(machines=3)
    with serving_arm(arm) as url:
        yield CollectorWorld(arm, url)


@pytest.mark.parametrize("aborted", [0, 1, 3])
def test_changes_are_written_once_with_the_states(world: CollectorWorld, aborted: int) -> None:
    """However often transactions are aborted; rows say what, where, by which request."""
    endings = [CommitResult.COMMITTED] * aborted + [CommitResult.ABORTED] * bool(aborted)
    world.prepare = lambda session: session.endings.extend(endings)
    world.settings = CollectorSettings(commit_seconds=0.001, concurrency=1)
    world.send(request("m-0", LIST))
    world.run()
    world.arm.size = "Standard_D4s_v5"
    world.send(request("m-1", one("vm-000001")))
    world.run()
    world.arm.gone = frozenset({1})
    world.send(request("m-2", one("vm-000000"), LIST))
    world.run()
    sizes = ("changed", "/properties/hardwareProfile/vmSize", '"Standard_D2s_v5"', '"Standard_D4s_v5"')
    assert world.changes()[:4] == [
        *((f"vm-{number:06}", "created", None, None, None) for number in range(3)),
        ("vm-000001", *sizes),
    ]
    assert sorted(world.changes()[4:], key=str) == [
        ("vm-000000", *sizes),
        ("vm-000001", "deleted", None, None, None),
        ("vm-000002", *sizes),
    ]
    rows = world.change_rows()
    assert [row["message_id"] for row in rows] == ["m-0"] * 3 + ["m-1"] + ["m-2"] * 3
    assert {(row["subscription"], row["type"].lower()) for row in rows} == {(SUBSCRIPTION, "microsoft.compute/virtualmachines")}
    assert (rows[3]["old_hash"], rows[3]["new_hash"]) == (rows[1]["new_hash"], world.resource_rows()[3]["content_hash"])


@pytest.mark.parametrize(
    "value", [None, b"", b"[]", b'{"id":"/a"}', msgspec.json.encode(ResourceChange("/a", 1, "t", "1", "changed", "m", 0))]
)
def test_a_message_that_is_no_change_is_no_row(value: bytes | None) -> None:
    """It becomes a dead letter of whoever reads it."""
    with pytest.raises(CodecError, match="not a change of a resource"):
        reader_of(RESOURCE_CHANGES, lambda _: "id")(Inbound("Meta.ResourceChanges", 0, 0, 0, b"k", value, ()))


def test_a_record_of_the_first_version_is_read() -> None:
    """It was last seen when it was written."""
    value = b'{"id":"/a","time":5,"first_seen":3,"api_version":"1","type":"t","content_hash":"00"}'
    facts = decode_resource(value)
    assert (facts.last_seen, bytes(facts.other), facts.content()) == (0, b"", {})
    assert decode_resource(encode_resource(facts)) == facts
