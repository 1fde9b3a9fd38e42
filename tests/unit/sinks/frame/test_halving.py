"""Transactions of rows some of which a table refuses, without saying which."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import ConfigError
from libs.common.messages.dead_letters import ErrorCode
from services.sinks.frame.halving import RowsRefused, Transactions
from services.sinks.frame.table import UnfitRow


class Shelf:
    """A table of numbers that refuses some of them, and knows whether it has a number already."""

    def __init__(self, refused: Collection[int]) -> None:
        self.refused = refused
        self.numbers: list[int] = []
        self.beats = 0

    def store(self, values: pa.Table) -> int:
        """Store all numbers or none, each once."""
        numbers = values.column("n").to_pylist()
        if any(number in self.refused for number in numbers):
            raise RowsRefused(ErrorCode.REFUSED, "odd")
        new = [number for number in numbers if number not in self.numbers]
        self.numbers += new
        return len(new)

    def beat(self) -> None:
        """Count."""
        self.beats += 1

    def transactions(self, most_rows: int) -> Transactions:
        """Return how numbers get here."""
        return Transactions(self.store, most_rows, lambda last: ConfigError(f"too many: {last.reason}"), self.beat)


@given(st.integers(0, 40), st.sets(st.integers(0, 39)), st.sets(st.integers(0, 39)), st.integers(1, 50))
def test_exactly_the_refused_rows_are_named(rows: int, refused: set[int], unfit: set[int], most_rows: int) -> None:
    """Whatever is refused, wherever transactions end: all others are stored, in order, and known when they come again."""
    shelf, values = Shelf(refused), pa.table({"n": pa.array(range(rows), pa.int64())})
    known = [UnfitRow(row, ErrorCode.REFUSED, "late") for row in sorted(unfit) if row < rows]
    stored = [number for number in range(rows) if number not in refused | unfit]
    for written in (len(stored), 0):
        outcome = shelf.transactions(most_rows).write(values, known)
        assert shelf.numbers == stored
        assert (outcome.written, outcome.already_there) == (written, len(stored) - written)
        bad = {bad.row: bad.reason for bad in outcome.refused}
        assert list(bad) == sorted(bad)
        assert bad == {row: "late" if row in unfit else "odd" for row in refused | unfit if row < rows}


def test_a_beat_follows_each_transaction() -> None:
    """A process with many transactions counts as alive."""
    shelf = Shelf(())
    shelf.transactions(10).write(pa.table({"n": list(range(35))}))
    assert shelf.beats == 4


def test_too_many_refused_rows_are_the_fault_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are already known to be unfit do not count."""
    monkeypatch.setattr("services.sinks.frame.halving.MOST_REFUSED", 3)
    unfit = [UnfitRow(row, ErrorCode.REFUSED, "late") for row in range(10)]
    values = pa.table({"n": list(range(20))})
    assert len(Shelf({10, 15, 19}).transactions(50).write(values, unfit).refused) == 13
    with pytest.raises(ConfigError, match="too many: odd"):
        Shelf({10, 12, 15, 19}).transactions(50).write(values, unfit)
