"""Positions of the sinks: which rows are new."""

from __future__ import annotations

import random
import sqlite3

import pytest

from libs.common.rows.types.flows import FLOWS
from services.sinks.local_state.positions import Positions
from tests.flows import Spot, by_identity, identity, row, rows, table, values_of


@pytest.fixture
def positions() -> Positions:
    """Give an empty store."""
    store = Positions(sqlite3.connect(":memory:"))
    store.create()
    return store


def test_every_row_is_fresh_once(positions: Positions) -> None:
    """Rows are fresh the first time and known the second, whatever batches they come in."""
    content = rows()
    first = positions.fresh(table(content[:20]), FLOWS.position)
    positions.advance(first)
    again = positions.fresh(table(content), FLOWS.position)
    assert first.rows.num_rows == 20
    assert again.known == 20
    assert values_of(again.rows) == content[20:]


def test_a_range_twice_in_one_batch_counts_once(positions: Positions) -> None:
    """A batch that holds a replay of its own rows gives each row once, in the order of first arrival."""
    content = rows()
    fresh = positions.fresh(table(content[:20] + content[4:30] + content), FLOWS.position)
    assert values_of(fresh.rows) == content


def test_generations_are_apart(positions: Positions) -> None:
    """A new generation of a blob starts from nothing."""
    positions.advance(positions.fresh(table(rows()), FLOWS.position))
    newer = [row(Spot(blob=0, record=0, tuple_index=0, generation=1))]
    assert positions.fresh(table(newer), FLOWS.position).rows.num_rows == 1


def test_random_replays_agree_with_a_set(positions: Positions) -> None:
    """Over random replays the fresh rows are those that a set of identities would let through."""
    content, chance = rows(blobs=4, records=6, tuples=3), random.Random(7)
    seen: set[object] = set()
    reached = 0
    while reached < len(content):
        start, end = chance.randint(0, reached), min(len(content), reached + chance.randint(0, 9))
        part = content[start:end]
        fresh = positions.fresh(table(part), FLOWS.position)
        assert set(by_identity(fresh.rows)) == {identity(r) for r in part} - seen
        positions.advance(fresh)
        seen |= {identity(r) for r in part}
        reached = end


DAY = 86_400.0
ONE, OTHER = row(Spot(0, 0, 0)), row(Spot(1, 0, 0))


class Shard:
    """Positions under a clock that can be set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.positions = Positions(sqlite3.connect(":memory:"), clock=lambda: self.now)
        self.positions.create()

    def write(self, *content: dict[str, object]) -> int:
        """Write rows and return how many were fresh."""
        fresh = self.positions.fresh(table(content), FLOWS.position)
        self.positions.advance(fresh)
        count: int = fresh.rows.num_rows
        return count

    def pass_days(self, count: int) -> int:
        """Let days pass and return how many generations were forgotten."""
        forgotten = 0
        for _ in range(count):
            self.now += DAY
            forgotten += self.positions.prune(400)
        return forgotten


def test_untouched_generations_are_forgotten() -> None:
    """A generation that nothing came from for remember_days is forgotten, one that was replayed meanwhile is not."""
    shard = Shard()
    shard.write(ONE, OTHER)
    assert shard.pass_days(300) == 0
    shard.write(OTHER)
    assert shard.pass_days(200) == 1
    assert shard.write(ONE, OTHER) == 1


@pytest.mark.parametrize("jumps", [(-20_000,), (20_000,), (20_000, -20_000), (-20_000, 20_000), (20_000, 20_000)])
def test_a_clock_that_jumps_makes_nothing_old(jumps: tuple[int, ...]) -> None:
    """However far the clock is set back or forward, what was written before, between and after stays known."""
    shard = Shard()
    shard.now = 30_000 * DAY
    shard.write(ONE)
    for days in jumps:
        shard.now += days * DAY
        assert shard.positions.prune(400) == 0
        assert shard.write(ONE, OTHER) <= 1
    shard.positions.prune(400)
    assert shard.write(ONE, OTHER) == 0


def test_positions_of_an_earlier_version_are_kept() -> None:
    """Days that an earlier version wrote down as dates go on from the newest of them."""
    database = sqlite3.connect(":memory:")
    Positions(database).create()
    database.execute("DROP TABLE day")
    database.executemany("INSERT INTO position VALUES (?, 0, 0, ?)", [(b"old", 20_000), (b"new", 20_300)])
    now = [20_500 * DAY]
    positions = Positions(database, clock=lambda: now[0])
    positions.create()
    for _ in range(101):
        assert positions.prune(400) == 0
        now[0] += DAY
    assert positions.prune(400) == 1
