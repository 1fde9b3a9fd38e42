"""What counts as a change of a resource."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from libs.common.settings.collector import IGNORED, CollectorSettings
from services.collector.comparing import MOST_PATHS, MOST_VALUE, ChangeOp, Comparison, PathDifference

COMPARISON = Comparison.of((*IGNORED, "properties.rules.*.hits", "properties.*.seen"))


def changed(old: Any, new: Any) -> list[tuple[str, str, str | None, str | None]]:
    """Return what differs between two resources, whose hashes must differ exactly if something does."""
    found = COMPARISON.differences(old, new)
    hashes = {COMPARISON.hash_of(msgspec.json.encode(content)) for content in (old, new)}
    assert (len(hashes) == 2) == bool(found)
    return [(each.op.value, each.path, each.old, each.new) for each in found]


def test_members_are_compared_one_by_one_and_named_elements_by_their_names() -> None:
    """In any order; pointers are escaped; lists without names are compared as a whole."""
    old = {
        "tags": {"a/b": "1", "c~d": "x"},
        "properties": {"rules": [{"name": "ssh", "port": 22}, {"name": "web", "port": 80}], "prefixes": ["10.0.0.0/16"]},
    }
    new = {
        "tags": {"a/b": "2"},
        "sku": {"name": "Basic"},
        "properties": {
            "rules": [{"name": "web", "port": 80}, {"name": "dns", "port": 53}, {"name": "ssh", "port": 2222}],
            "prefixes": ["10.0.0.0/16", "10.1.0.0/16"],
        },
    }
    assert changed(old, new) == [
        ("changed", "/properties/prefixes", '["10.0.0.0/16"]', '["10.0.0.0/16","10.1.0.0/16"]'),
        ("added", "/properties/rules/dns", None, '{"name":"dns","port":53}'),
        ("changed", "/properties/rules/ssh/port", "22", "2222"),
        ("added", "/sku", None, '{"name":"Basic"}'),
        ("changed", "/tags/a~1b", '"1"', '"2"'),
        ("removed", "/tags/c~0d", '"x"', None),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"id": "/A", "type": "X"}, {"id": "/a", "type": "x"}),
        ({"etag": "1", "properties": {"x": [{"Etag": 1}]}}, {"properties": {"x": [{"etag": 2}]}}),
        ({"properties": {"provisioningState": "Updating"}}, {"properties": {"provisioningState": "Succeeded"}}),
        ({"properties": {"rules": [{"name": "a", "hits": 1}]}}, {"properties": {"rules": [{"name": "a", "hits": 2}]}}),
        ({"properties": {"rules": [{"a": 1, "hits": 1}]}}, {"properties": {"rules": [{"a": 1}]}}),
        ({"properties": {"any": {"seen": 1}}}, {"properties": {"any": {"seen": 2}}}),
        ({"list": [{"id": "a"}, {"id": "b"}]}, {"list": [{"id": "b"}, {"id": "a"}]}),
    ],
)
def test_what_azure_changes_by_itself_does_not_count(old: Any, new: Any) -> None:
    """Neither in the hash nor as a difference, in any case."""
    assert changed(old, new) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"tags": {"etag": "1"}}, {"tags": {"etag": "2"}}),
        ({"seen": 1}, {"seen": 2}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": True}, {"a": 1}),
        ({"a": None}, {}),
        ({"list": [1, 2]}, {"list": [2, 1]}),
        ({"list": []}, {"list": {}}),
    ],
)
def test_everything_else_counts(old: Any, new: Any) -> None:
    """Tags that are called like what is ignored, numbers of another kind, null, the order of a list without names."""
    assert len(changed(old, new)) == 1


def test_long_values_are_cut_and_many_differences_become_one() -> None:
    """So that what is written about a change is bounded."""
    (long,) = COMPARISON.differences({"a": ""}, {"a": "\u00fc" * MOST_VALUE})
    assert long == PathDifference(ChangeOp.CHANGED, "/a", '""', '"' + "\u00fc" * (MOST_VALUE // 2 - 1), 2, 2 * MOST_VALUE + 2)
    many = {f"m{number}": {"x": number} for number in range(MOST_PATHS + 1)}
    (whole,) = COMPARISON.differences({"properties": {}}, {"properties": many})
    assert (whole.op, whole.path, whole.old_size) == (ChangeOp.CHANGED, "/properties", 2)
    assert whole.new is not None
    assert len(whole.new) == MOST_VALUE < (whole.new_size or 0)
    deep: Any = 1
    for _ in range(60):
        deep = {"a": deep}
    assert COMPARISON.differences({"x": deep}, {"x": {"a": deep}})[0].path.count("/") <= 40


@pytest.mark.parametrize("text", ["\u6f22" * 1_000, '"' * 1_000, "\x01" * 1_000], ids=["wide", "quotes", "control"])
def test_what_is_written_about_a_change_is_bounded_in_bytes(text: str) -> None:
    """However many bytes a character takes, and however it is escaped: a broker takes no message of any size."""
    values = {f"m{number}": text for number in range(400)}
    change = COMPARISON.differences({"a": values, "b": 1}, {"a": dict.fromkeys(values, ""), "b": 2})
    assert len(msgspec.json.encode([(one.path, one.old, one.new) for one in change])) < 600_000
    assert {one.path for one in change} >= {"/b"}


def test_what_is_nested_too_deeply_or_has_too_large_numbers_is_compared_as_text() -> None:
    """It is no error."""
    deep = b'{"a":' * 5_000 + b"1" + b"}" * 5_000
    assert COMPARISON.hash_of(deep) == COMPARISON.hash_of(deep)
    assert COMPARISON.hash_of(deep) != COMPARISON.hash_of(deep.replace(b"1", b"2"))
    assert COMPARISON.hash_of(b'{"a": 1e999}') == COMPARISON.hash_of(b'{"a": 1e999}') != COMPARISON.hash_of(b'{"a": 1e998}')


@pytest.mark.parametrize("path", ["", ".", "a..b", "*"])
def test_a_path_with_an_empty_part_is_refused(path: str) -> None:
    """And one that would ignore everything."""
    with pytest.raises(ValueError, match="is not the name of a member"):
        CollectorSettings(ignore_changes_of=(path,))
