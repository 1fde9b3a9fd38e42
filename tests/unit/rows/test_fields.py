"""Columns for values in the JSON of a row."""

from __future__ import annotations

import pyarrow as pa
import pytest

from libs.common.errors import ConfigError
from libs.common.rows.fields import MOST_EXPRESSION, MOST_TEXT, JsonFields
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.results import RESULTS
from libs.common.rows.types.snapshots import SNAPSHOTS


def values(record: str | None, expression: str) -> str | None:
    """Return what an expression selects in a record."""
    fields = JsonFields.of(SNAPSHOTS, {"value": expression})
    added = fields.add(pa.table({"record": pa.array([record], pa.string())}))
    assert added.column_names == ["record", "value"]
    (value,) = added.column("value").to_pylist()
    return value  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("record", "expression", "value"),
    [
        ('{"a":"x"}', "a", "x"),
        ('{"a":1.50}', "a", "1.5"),
        ('{"a":true}', "a", "true"),
        ('{"a":{"b":[1,"\u00fc"]}}', "a", '{"b":[1,"\u00fc"]}'),
        ('{"a":[{"b":1},{"b":2}]}', "a[*].b", "[1,2]"),
        ('{"a":[{"b":1},{"b":2}]}', "length(a)", "2"),
        ('{"a":""}', "a", ""),
        ('{"a":null}', "a", None),
        ("{}", "a.b.c", None),
        ("{", "a", None),
        (None, "a", None),
        ("[" * 10_000, "a", None),
        ('{"a":1}', "length(a)", None),
        ('{"a":"1e999"}', "ceil(to_number(a))", None),
        ('{"a":1}', "[&a]", None),
        ('{"a":"%s"}' % ("x" * MOST_TEXT), "a", "x" * MOST_TEXT),
        ('{"a":"%s"}' % ("x" * MOST_TEXT), "[a]", None),
    ],
)
def test_a_value_is_text_or_json_and_what_is_missing_is_null(record: str | None, expression: str, value: str | None) -> None:
    """Whatever a record holds: what does not fit an expression is like what is missing."""
    assert values(record, expression) == value


@pytest.mark.parametrize(
    ("name", "expression", "problem"),
    [
        ("value", "a[", r"fields\.value is not a JMESPath expression"),
        ("value", "nothing(a)", r"fields\.value is not a JMESPath expression.*nothing"),
        ("value", "", r"fields\.value is not a JMESPath expression"),
        ("value", "a" * (MOST_EXPRESSION + 1), "longer than 1,000 characters"),
        ("value", " | ".join(["[@, @]"] * 40), "may select the same value more than 1,000 times"),
        ("value", "[[[[@, @], @], @], a] | " * 10 + "@", "may select the same value"),
        ("value", "(" * 900, "is not a JMESPath expression"),
        ("record", "a", "record is a column of snapshots"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(name: str, expression: str, problem: str) -> None:
    """Also what would fill the memory."""
    with pytest.raises(ConfigError, match=problem):
        JsonFields.of(SNAPSHOTS, {name: expression})


def test_rows_without_json_have_no_fields() -> None:
    """Other types name the column that is searched."""
    with pytest.raises(ConfigError, match="rows of type flows have no column with JSON"):
        JsonFields.of(FLOWS, {"value": "a"})
    found = JsonFields.of(RESULTS, {"count": "length(value)"}).add(pa.table({"data": ['{"value":[1,2]}']}))
    assert found.column("count").to_pylist() == ["2"]
