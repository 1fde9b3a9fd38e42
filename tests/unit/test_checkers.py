"""The checkers of integration and chaos tests find what they are for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from tests.documents import ecs_document
from tests.flows import Spot, row, rows, table
from tests.pipeline import assert_in_order, assert_same_rows, plain
from tests.stores import flow_of, rows_table

TRUTH = plain(table(rows(1)))


def test_a_document_tells_its_whole_row() -> None:
    """What is read back of an ECS document is the row it was made of, absent values included."""
    assert_same_rows(rows_table(flow_of(ecs_document(values)) for values in rows(1)), TRUTH)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document["source"].pop("bytes", None) or document["source"].update(bytes=0),
        lambda document: document["network"].update(bytes=1),
        lambda document: document["event"].update(type=["connection"]),
        lambda document: document["blobtide"]["flow"].update(encryption="X"),
        lambda document: document["destination"].update(ip="10.0.0.1"),
    ],
)
def test_a_wrong_value_in_a_document_is_found(spoil: Callable[[dict[str, Any]], None]) -> None:
    """A document that differs from its row in one value, stated or derived, does not pass for it."""
    documents = [ecs_document(values) for values in rows(1)]
    spoil(documents[5])
    with pytest.raises(AssertionError):
        assert_same_rows(rows_table(map(flow_of, documents)), TRUTH)


def test_blobs_may_stand_among_each_other() -> None:
    """Order is by blob generation: rows of others may come between."""
    assert_in_order(plain(table(rows())))
    assert_in_order(plain(table([row(Spot(0, 1, 0)), row(Spot(0, 0, 0, generation=1)), row(Spot(0, 1, 1))])))
    assert_in_order(plain(table([])))


@pytest.mark.parametrize("later", [Spot(1, 1, 0), Spot(1, 0, 5), Spot(1, 1, 1)])
def test_a_row_out_of_order_is_found(later: Spot) -> None:
    """A record or tuple that comes behind a higher one of its blob, or again, does not pass."""
    flows: pa.Table = plain(table([row(Spot(1, 0, 9)), row(Spot(1, 1, 1)), row(Spot(0, 0, 0)), row(later)]))
    with pytest.raises(AssertionError, match="stands behind"):
        assert_in_order(flows)
