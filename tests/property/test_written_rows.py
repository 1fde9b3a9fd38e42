"""What the kafka sink remembers of rows: whatever fails, each row is written once or named as refused, and never neither."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from libs.common.kafka.records import Inbound, Outbound
from libs.common.rows.identity import Identities
from libs.common.rows.types.flows import FLOWS
from services.sinks.records.written import Place, WrittenRows
from tests.flows import Spot, row, table

DAY = 86_400
PLACE = Place("positions", 0, "blobtide.sink.kafka.0", 30)
SOURCE = [row(Spot(number % 3, number // 6, number // 3 % 2)) for number in range(60)]


@dataclass
class Cluster:
    """The committed records of the target: the positions, and how often each row was written."""

    positions: list[Inbound] = field(default_factory=list)
    written: list[int] = field(default_factory=lambda: [0] * len(SOURCE))
    letters: set[int] = field(default_factory=set)
    now: float = 20_000.0 * DAY

    def start(self) -> WrittenRows:
        """Return the memory of a process that takes the shard over."""
        known = WrittenRows(PLACE, lambda: self.now)
        for record in self.positions:
            known._apply(record)
        return known

    def write(self, known: WrittenRows, first: int, end: int, bad: frozenset[int], fails_after: int) -> set[int] | None:
        """Write some rows in chunks of five; return those refused, or None if the write fails after some transactions."""
        known.begin()
        identities = Identities.of(table(SOURCE[first:end]).combine_chunks(), FLOWS.position)
        fresh, refused = known.fresh(identities), set()
        for number, at in enumerate(range(0, len(fresh), 5)):
            if number == fails_after:
                return None
            chunk = fresh[at : at + 5]
            is_bad = np.array([first + int(one) in bad for one in chunk], np.bool_)
            changes = known.changes(identities, chunk[~is_bad], chunk[is_bad])
            self.positions += [self._record(change) for change in changes]
            known.remember(changes)
            for one in chunk[~is_bad]:
                self.written[first + int(one)] += 1
            refused |= {first + int(one) for one in chunk[is_bad]}
        known.settle()
        return refused

    def _record(self, change: Outbound) -> Inbound:
        value = None if change.value is None else bytes(change.value)
        return Inbound(change.topic, 0, len(self.positions), int(self.now * 1_000), change.key, value, ())


STEPS = st.lists(
    st.tuples(
        st.integers(1, 20),  # rows of a batch
        st.sampled_from(["good", "good", "retry", "crash in the write", "crash before the letters", "crash before the commit"]),
        st.integers(0, 3),
    ),
    max_size=40,
)


@given(STEPS, st.frozensets(st.integers(0, len(SOURCE) - 1), max_size=20))
def test_each_row_is_written_once_or_is_a_dead_letter(steps: list[tuple[int, str, int]], bad: frozenset[int]) -> None:
    """Retries, crashes and other cuts of the batches double no row and lose none, refused or not."""
    cluster = Cluster()
    known, committed = cluster.start(), 0
    for size, end, after in [*steps, *[(len(SOURCE), "good", 9)] * 2]:
        if committed == len(SOURCE):
            break
        stops = after if end in {"retry", "crash in the write"} else 99
        refused = cluster.write(known, committed, min(committed + size, len(SOURCE)), bad, stops)
        if refused is None:
            if end != "retry":
                known = cluster.start()
            continue
        if end != "crash before the letters":
            cluster.letters |= refused
        if end == "good":
            committed = min(committed + size, len(SOURCE))
        else:
            known = cluster.start()
    assert committed == len(SOURCE)
    assert cluster.letters == bad
    assert cluster.written == [0 if number in bad else 1 for number in range(len(SOURCE))]


def test_a_replay_of_everything_gives_nothing_again() -> None:
    """Rows that are certainly dead letters are not refused once more; those of the last write may be."""
    cluster = Cluster()
    known = cluster.start()
    for first in range(0, len(SOURCE), 10):
        cluster.write(known, first, first + 10, frozenset({7, 23, 55}), 99)
    again = cluster.start()
    assert cluster.write(again, 0, len(SOURCE), frozenset({7, 23, 55}), 99) == {55}
    assert sum(cluster.written) == len(SOURCE) - 3


def test_positions_older_than_the_topic_keeps_them_are_forgotten() -> None:
    """Memory holds the generations of the days that are remembered, in a process that runs for years."""
    cluster = Cluster()
    known = cluster.start()
    assert cluster.write(known, 0, 30, frozenset(), 99) == set()
    cluster.now += 20 * DAY
    assert cluster.write(known, 30, 33, frozenset(), 99) == set()  # of the same three generations
    other = [row(Spot(9, 0, 0))]
    identities = Identities.of(table(other), FLOWS.position)
    cluster.now += 20 * DAY
    known.remember(known.changes(identities, known.fresh(identities), np.empty(0, np.int64)))
    assert len(known._known) == 4
    cluster.now += 20 * DAY
    known.remember([])
    assert len(known._known) == 1
