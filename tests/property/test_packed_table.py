"""The packed table against a dictionary."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from libs.common.packed import PackedTable, digest_of

ROW = np.dtype([("number", "<u4"), ("other", "<u4")])
STEPS = st.lists(st.tuples(st.integers(0, 20), st.none() | st.binary(min_size=8, max_size=8), st.booleans()), max_size=60)


def key(number: int) -> bytes:
    """Return a key."""
    return f"y=2026/{number}".encode()


@given(STEPS)
def test_a_packed_table_is_a_dictionary(steps: list[tuple[int, bytes | None, bool]]) -> None:
    """Whatever is put, put again and removed, now and then merged: the same rows as in a dictionary, one by one and many."""
    table, expected = PackedTable(ROW), dict[bytes, bytes]()
    for number, row, looks in steps:
        if row is None:
            table.remove(key(number))
            expected.pop(key(number), None)
        else:
            table.put(key(number), row)
            expected[key(number)] = row
        if looks:
            assert len(table) == len(expected)
    keys = [key(number) for number in range(21)]
    assert [table.get(one) for one in keys] == [expected.get(one) for one in keys]
    rows, places = table.find(keys)
    assert [None if place < 0 else rows[place].tobytes() for place in places] == [expected.get(one) for one in keys]
    assert sorted(table.digests(np.ones(len(table), np.bool_))) == sorted(map(digest_of, expected))


def test_a_row_takes_its_own_size_and_sixteen_bytes() -> None:
    """Many rows, put in any order and some of them twice, need no more; what was written into a row in place stays there."""
    table, numbers = PackedTable(ROW), list(range(20_000))
    random.Random(1).shuffle(numbers)
    for number in numbers + numbers[:500]:
        table.put(key(number), number.to_bytes(4, "little") + bytes(4))
    assert len(table) == 20_000
    assert table.nbytes == 20_000 * (16 + ROW.itemsize)
    assert table.approximate_length == 20_000
    rows, places = table.find([key(number) for number in (7, 19_999, 20_000)])
    assert [int(rows["number"][place]) for place in places[:2]] == [7, 19_999]
    assert places[2] == -1
    rows["other"][places[0]] = 5
    table.put(key(1), bytes(8))
    assert table.get(key(7)) == (7).to_bytes(4, "little") + (5).to_bytes(4, "little")
