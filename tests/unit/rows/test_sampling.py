"""Samples of rows by position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from libs.common.rows.sampling import position_hashes, sampled
from tests.kinds_of_rows import THINGS, things


def many(number: int) -> pa.Table:
    """Return rows of several sources, as they come: a few rows a record."""
    return things(
        {"source": f"s{n % 7}", "generation": f"g{n % 3}", "offset": n // 4 * 812, "index": n % 4} for n in range(number)
    )


def test_share() -> None:
    """A sample holds about the share that was asked for, within five standard deviations."""
    rows = many(40_000)
    for share in (0.01, 0.1, 0.5, 0.9):
        found = int(sampled(rows, THINGS.position, share).sum())
        assert abs(found - 40_000 * share) < 5 * (40_000 * share * (1 - share)) ** 0.5


def test_every_source_has_its_share() -> None:
    """No source, record or place in a record is preferred."""
    rows = many(40_000)
    chosen = rows.filter(pa.array(sampled(rows, THINGS.position, 0.5)))
    for name in ("source", "generation", "index"):
        counts = chosen.group_by(name).aggregate([([], "count_all")])["count_all"].to_numpy()
        expected = chosen.num_rows / len(counts)
        assert (np.abs(counts - expected) < 6 * expected**0.5).all()


def test_smaller_samples_are_within_larger_ones() -> None:
    """What a small sample holds, every larger one holds too."""
    rows = many(5_000)
    tenth, fifth = (sampled(rows, THINGS.position, share) for share in (0.1, 0.2))
    assert tenth.any()
    assert not (tenth & ~fifth).any()


def test_batches_do_not_matter() -> None:
    """A row is chosen or not, in whatever batch it comes and however its words are numbered."""
    rows = many(1_000)
    whole = sampled(rows, THINGS.position, 0.3)
    backwards = things(reversed(rows.to_pylist()))
    assert (sampled(backwards, THINGS.position, 0.3)[::-1] == whole).all()
    chunks = pa.concat_tables([things(rows.slice(at, 100).to_pylist()) for at in range(0, 1_000, 100)])
    assert (sampled(chunks, THINGS.position, 0.3) == whole).all()


@pytest.mark.parametrize("change", [{"source": "t"}, {"generation": "h"}, {"offset": 1}, {"index": 1}])
def test_every_part_of_the_position_counts(change: Mapping[str, Any]) -> None:
    """Rows that differ in any part of their position have different hashes."""
    position = {"source": "s", "generation": "g", "offset": 0, "index": 0}
    one, other = position_hashes(things([position, {**position, **change}]), THINGS.position)
    assert one != other


def test_hashes_stay() -> None:
    """Hashes are the same in every version, else a replay would choose other rows."""
    rows = things([{"source": "a/b/PT1H.json", "generation": "g1", "offset": 4096, "index": n} for n in range(2)])
    assert position_hashes(rows, THINGS.position).tolist() == [13_789_079_812_147_823_765, 16_302_450_917_688_849_840]
