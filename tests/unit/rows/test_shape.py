"""Columns and their names at a destination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from libs.common.errors import ConfigError
from libs.common.rows.shape import Shape
from tests.kinds_of_rows import THINGS, things


def test_default_is_everything() -> None:
    """Without settings, rows are as they are."""
    rows = things([{"text": "a"}])
    assert Shape.of(THINGS).apply(rows).equals(rows)


def test_order_and_names() -> None:
    """Columns come in the order of the setting, under their new names."""
    shape = Shape.of(THINGS, ["text", "small", "time"], {"text": "event.text"})
    shaped = shape.apply(things([{"text": "a", "small": 5}]))
    assert shaped.column_names == ["event.text", "small", "time"]
    assert shaped.column("event.text").to_pylist() == ["a"]


def test_added_columns_come_last_or_where_they_are_named() -> None:
    """The weight of sampled rows is always there, last unless the setting says where."""
    rows = things([{}]).append_column("sample_weight", [[2.0]])
    assert Shape.of(THINGS, ["text"], added=["sample_weight"]).apply(rows).column_names == ["text", "sample_weight"]
    named = Shape.of(THINGS, ["sample_weight", "text"], {"sample_weight": "weight"}, added=["sample_weight"])
    assert named.apply(rows).column_names == ["weight", "text"]


@pytest.mark.parametrize(
    ("columns", "rename", "reason"),
    [
        (["txt"], {}, "columns: unknown column txt; did you mean text?; things has time, word"),
        (["sample_weight"], {}, "columns: unknown column sample_weight"),
        (["text", "text"], {}, "columns: duplicate column text"),
        ([], {}, "columns: name at least one column"),
        (None, {"txt": "a"}, "rename: unknown column txt; did you mean text?"),
        (["text"], {"word": "a"}, "rename: column word is not among the chosen columns"),
        (None, {"text": "word"}, "rename: duplicate name word"),
        (None, {"text": "a", "word": "a"}, "rename: duplicate name a"),
        (None, {"text": ""}, "rename: '' cannot name a column"),
        (None, {"text": "a..b"}, "rename: 'a..b' cannot name a column"),
        (None, {"text": "word.text"}, "rename: word is a column, so word.text cannot be nested in it"),
    ],
)
def test_mistakes_are_named(columns: Sequence[str] | None, rename: Mapping[str, str], reason: str) -> None:
    """A wrong setting is refused at construction."""
    with pytest.raises(ConfigError) as caught:
        Shape.of(THINGS, columns, rename)
    assert str(caught.value).startswith(reason)


def test_names_may_be_swapped() -> None:
    """Two columns may take each other's names."""
    shaped = Shape.of(THINGS, ["text", "word"], {"text": "word", "word": "text"}).apply(things([{"text": "t", "word": "w"}]))
    assert shaped.to_pylist() == [{"word": "t", "text": "w"}]
