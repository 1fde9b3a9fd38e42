"""What a collector learns from others about resources, also while Kafka is away."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from libs.common.errors import ServerUnreachable
from libs.common.kafka.records import Inbound
from libs.common.messages.resources import DELETED, ResourceFacts, encode_resource
from libs.common.settings.collector import CollectorSettings
from services.collector.inventory import Inventory, InventoryRules
from services.collector.resources import SeenPage

FACTS = ResourceFacts(
    id="/subscriptions/1/resourceGroups/a", time=2, first_seen=1, api_version="1", type="t", content_hash="ab"
)


class Table:
    """A topic whose records the test gives; away for some time, if the test says so."""

    def __init__(self, apply: Callable[[Inbound], None]) -> None:
        self.apply = apply
        self.arriving: list[Inbound] = []
        self.is_away = False
        self.is_open = False

    def open(self) -> None:
        """Raise if Kafka is away."""
        self._check()
        self.is_open = True

    def catch_up(self, timeout: float, between: Callable[[], None]) -> None:
        """Raise if Kafka is away."""
        del timeout
        between()
        self._check()
        self.take_new(between)

    def take_new(self, between: Callable[[], None]) -> None:
        """Apply what there is."""
        assert self.is_open
        between()
        for record in self.arriving:
            self.apply(record)
        self.arriving = []

    def close(self) -> None:
        """Close."""
        self.is_open = False

    def _check(self) -> None:
        if self.is_away:
            raise ServerUnreachable("Kafka is away")


@pytest.fixture
def tables() -> list[Table]:
    """Return the tables that were made."""
    return []


@pytest.fixture
def inventory(tables: list[Table]) -> Inventory:
    """Return an inventory that has read an empty topic."""

    def make(apply: Callable[[Inbound], None]) -> Table:
        tables.append(Table(apply))
        return tables[-1]

    made = Inventory(make, 1.0, InventoryRules.of(CollectorSettings()))
    made.load(lambda: None)
    return made


def news(inventory: Inventory) -> list[ResourceFacts]:
    """Return what is new of `FACTS`."""
    return list(inventory.changed("item", 0, 0, SeenPage((FACTS,), is_list=False)))


def tell(table: Table, key: bytes, value: bytes | None) -> None:
    """Let a record arrive."""
    table.arriving.append(Inbound("Meta.Resources", 0, 0, 0, key, value, ()))


def test_what_others_have_written_is_not_new(inventory: Inventory, tables: list[Table]) -> None:
    """Until they write that it is gone."""
    tell(tables[0], FACTS.key, encode_resource(FACTS))
    inventory.follow(lambda: None)
    assert news(inventory) == []
    tell(tables[0], FACTS.key, encode_resource(msgspec.structs.replace(FACTS, state=DELETED)))
    inventory.follow(lambda: None)
    assert news(inventory) == [FACTS]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"{",
        encode_resource(msgspec.structs.replace(FACTS, content_hash="not hex")),
        encode_resource(msgspec.structs.replace(FACTS, first_seen=-1)),
        encode_resource(msgspec.structs.replace(FACTS, first_seen=2**70)),
    ],
)
def test_a_record_that_nobody_understands_says_nothing(inventory: Inventory, tables: list[Table], value: bytes | None) -> None:
    """It ends no collector; the resource is written again when it is seen."""
    tell(tables[0], FACTS.key, value)
    inventory.follow(lambda: None)
    assert news(inventory) == [FACTS]


def test_a_reading_that_fails_can_be_repeated(inventory: Inventory, tables: list[Table]) -> None:
    """Meanwhile nothing is followed, and nothing stays open."""
    tell(tables[0], FACTS.key, encode_resource(FACTS))
    inventory.follow(lambda: None)

    def away() -> None:
        tables[-1].is_away = True

    with pytest.raises(ServerUnreachable):
        inventory.load(away)
    inventory.follow(lambda: None)
    assert [table.is_open for table in tables] == [False, False]
    inventory.load(lambda: None)
    assert news(inventory) == [FACTS]
