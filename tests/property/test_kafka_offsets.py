"""Offset arithmetic holds for any batch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libs.common.kafka.group.offsets import first_offsets, next_offsets
from libs.common.kafka.records import Inbound, TopicPartition
from libs.common.kafka.testing import record

batches = st.lists(st.builds(record, st.sampled_from(["a", "b"]), st.integers(0, 3), st.integers(0, 1 << 40)), max_size=30)


@given(batches)
def test_next_offsets_are_one_after_the_last_record_of_each_partition(batch: list[Inbound]) -> None:
    """Exactly the partitions of the batch appear; committed at the next offset, every record is behind it, the last by one."""
    found = next_offsets(batch)
    assert found.keys() == first_offsets(batch).keys() == {r.source for r in batch}
    for source, offset in found.items():
        offsets = [r.offset for r in batch if r.source == source]
        assert offset == max(offsets) + 1
        assert first_offsets(batch)[source] == min(offsets)


@given(batches, st.integers(0, 30))
def test_next_offsets_of_a_prefix_never_exceed_those_of_the_batch(batch: list[Inbound], cut: int) -> None:
    """Committing the first part of a batch never moves beyond the whole of it."""
    whole = next_offsets(batch)
    part: dict[TopicPartition, int] = next_offsets(batch[:cut])
    assert all(offset <= whole[source] for source, offset in part.items())
