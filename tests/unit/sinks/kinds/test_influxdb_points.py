"""The points of rows: which tags and fields they have, and that no row replaces another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import ConfigError
from libs.common.rows.row_type import RowType
from libs.common.rows.shape import Shape
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from services.sinks.kinds.influxdb.points import PointMaker, Points, PointShape
from tests.contract.harness import Row
from tests.flows import Spot, row, rows, table
from tests.kinds_of_rows import THINGS
from tests.line_protocol import Point, parse

ROWS = rows(blobs=3, records=4, tuples=5)


def shape(row_type: RowType = FLOWS, tags: Any = None, **options: Any) -> PointShape:
    """Return the shape of points."""
    return PointShape.of(row_type, Shape.of(row_type, **options), row_type.schema, "m", tags)


def points(content: Sequence[Row], tags: Any = None) -> Points:
    """Return the points of flows."""
    return PointMaker(FLOWS, shape(tags=tags)).points(table(content).combine_chunks())


def read(made: Points) -> list[Point]:
    """Return points as a server reads them."""
    return parse("".join(line for some in made.lines() for line in some.to_pylist()))


def test_text_that_repeats_becomes_a_tag() -> None:
    """By default tags are words that are no part of an address or a position: few series for each interface."""
    assert set(shape().tags) == {
        *("direction", "action", "state", "encryption", "rule", "acl_id", "mac", "category"),
        *("flow_log_id", "resource_id", "target_id", "system_id"),
    }
    assert set(shape(DEAD_LETTERS).tags) == {"stage", "code", "topic"}


def test_columns_can_be_chosen_as_tags_and_renamed() -> None:
    """Any column but the time may be a tag, under its new name; without tags, all are fields."""
    chosen = shape(tags=("protocol", "src_ip"), rename={"src_ip": "source.ip"})
    assert chosen.tags == {"src_ip": "source.ip", "protocol": "protocol"}
    assert not shape(tags=()).tags
    (point,) = read(PointMaker(FLOWS, chosen).points(table(ROWS[:1])))
    assert point.tags == {"protocol": "6", "source.ip": ROWS[0]["src_ip"]}


@pytest.mark.parametrize(
    ("tags", "options", "said"),
    [
        (("time",), {}, "tags: time is the time of the points"),
        (("protcol",), {}, "tags: unknown column protcol; did you mean protocol"),
        (("mac",), {"columns": ("src_ip",)}, "tags: column mac is not among the chosen columns"),
        (None, {"columns": ("src_ip", "src_port"), "rename": {"src_ip": "time"}}, "rename: time is the name of the time"),
        (None, {"rename": {"src_ip": "_field"}}, "rename: _field begins with _"),
        (None, {"rename": {"src_ip": "a\nb"}}, "rename: 'a.*b' cannot name"),
        (None, {"columns": ("mac", "bytes_sent")}, "a point needs a field that is never null"),
    ],
)
def test_what_makes_no_point_is_refused_at_the_start(tags: Any, options: dict[str, Any], said: str) -> None:
    """Tags, names and columns that do not fit are refused with the name of the setting."""
    with pytest.raises(ConfigError, match=said):
        shape(tags=tags, **options)


def test_a_type_that_no_field_has_is_refused_at_the_start() -> None:
    """A list has no form in a point."""
    with pytest.raises(ConfigError, match="columns: items is of type list"):
        shape(THINGS)


def test_the_time_of_a_row_is_that_of_its_point_cut_to_milliseconds() -> None:
    """A point lies within the millisecond of its row, before 1970 as well."""
    content = [*ROWS, row(Spot(0, 9, 0), time=-1), row(Spot(0, 9, 1), time=0)]
    made = read(points(content))
    assert [point.time // 1_000_000 for point in made] == [one["time"] for one in content]


def test_times_that_no_point_has_are_named() -> None:
    """Rows beyond the years 1677 and 2262 are left out and named."""
    edge = 9_223_372_034
    content = [row(Spot(0, 0, index), time=time * 1_000) for index, time in enumerate((-edge - 1, -edge, edge, edge + 1))]
    made = points(content)
    assert made.untimely.tolist() == [0, 3]
    assert made.rows.tolist() == [1, 2]
    assert len(read(made)) == 2


@given(st.permutations(range(len(ROWS))), st.integers(1, len(ROWS)))
def test_a_point_follows_from_its_row_alone(order: list[int], size: int) -> None:
    """Whatever the batch, a row makes the same point: a repeated one replaces itself."""
    some = order[:size]
    assert read(points([ROWS[at] for at in some])) == [alone()[at] for at in some]


@cache
def alone() -> list[Point]:
    """Return the point of each row, made by itself."""
    return [read(points([one]))[0] for one in ROWS]


def test_equal_rows_of_a_record_make_different_points() -> None:
    """A hundred thousand equal tuples of one record, in one millisecond and with the same tags, are as many points."""
    content = table([row(Spot(1, 1, 0))] * 100_000)
    at = content.schema.get_field_index("tuple_index")
    numbered = content.set_column(at, content.schema.field(at), pa.array(range(100_000), pa.int32()))
    made = PointMaker(FLOWS, shape()).points(numbered.combine_chunks())
    assert not len(made.colliding)
    times = {line.rpartition(" ")[2] for some in made.lines() for line in some.to_pylist()}
    assert len(times) == 100_000


def test_rows_of_neighbouring_records_make_different_points() -> None:
    """Records of one source that touch each other share no point, since an offset grows by more than a record has rows."""
    content = [row(Spot(1, 1, index), record_offset=offset) for offset in range(1_000, 9_000, 50) for index in range(40)]
    assert len({point.key for point in read(points(content))}) == len(content)


def test_rows_that_would_replace_each_other_are_named() -> None:
    """Of rows that would make one point the first by position is written and the others are named, in any order."""
    twins = [
        row(Spot(1, 1, 0), record_offset=offset, rule=rule) for offset in (10, 1_000_010, 2_000_010) for rule in ("a", "b")
    ]
    for content in (twins, twins[::-1]):
        made = points([ROWS[0], *content, ROWS[1]])
        kept = [[ROWS[0], *content, ROWS[1]][at] for at in made.rows]
        assert [one["record_offset"] for one in kept[1:-1]] == [10, 10]
        assert len(made.colliding) == 4
        assert len({point.key for point in read(made)}) == 4


def test_a_row_that_comes_twice_is_no_collision() -> None:
    """The same row again in a batch is the same point, and nobody is refused."""
    made = points([*ROWS[:5], *ROWS[:5]])
    assert not len(made.colliding)
    assert len({point.key for point in read(made)}) == 5


def test_tags_that_are_equal_once_they_are_visible_are_the_same_tags() -> None:
    """What servers would take for one series is compared as that: no text and no tag, a backslash and its visible form."""
    twins = [
        row(Spot(1, 1, 0), record_offset=offset, rule=rule)
        for offset, rule in ((10, ""), (1_000_010, None), (20, "a\\"), (1_000_020, "a\\u005c"))
    ]
    assert points(twins).colliding.tolist() == [1, 3]
