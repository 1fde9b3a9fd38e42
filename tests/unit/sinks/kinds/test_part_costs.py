"""What a sink of documents pays for a part and what for each of its rows, in calls: time would depend on the machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pyarrow as pa
import pytest

from libs.common.rows.types.flows import FLOWS
from services.sinks.kinds.elasticsearch.sink import ElasticsearchSettings, ElasticsearchSink
from services.sinks.kinds.redis.sink import RedisSettings, RedisSink
from tests.flows import Spot, row, table

A_SLICE = 4_096


def operations(flows: pa.Table) -> list[Any]:
    """Make what is sent to Elasticsearch."""
    return list(ElasticsearchSink(ElasticsearchSettings(), FLOWS)._portions(0, flows))


def documents(flows: pa.Table) -> list[Any]:
    """Make what is sent to Redis."""
    return list(RedisSink(RedisSettings(), FLOWS)._documents(flows))


def calls(act: Callable[[], Any]) -> int:
    """Count the functions that are called, in Python and C."""
    count = 0

    def called(_: FrameType, event: str, __: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(called)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("made", [operations, documents])
def test_what_rows_have_in_common_is_made_once_a_part(made: Callable[[pa.Table], list[Any]]) -> None:
    """Five times as many rows, which go in five times as many slices, cost less than twice as many calls."""
    flows = table([row(Spot(0, record, index)) for record in range(20) for index in range(5 * A_SLICE // 20)])
    short = flows.slice(0, A_SLICE)
    made(short)  # modules are loaded at the first time
    assert calls(lambda: made(flows)) < 2 * calls(lambda: made(short))
