"""What the collector says has changed is what has changed."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.collector.comparing import ChangeOp, Comparison, PathDifference

NAMES = st.sampled_from(["a", "b", "name", "id", "etag", "x/y", "~", "tags"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "p", "q"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
CONTENTS = st.dictionaries(NAMES, VALUES, max_size=5)
COMPARISON = Comparison.of(("etag", "a.b", "b.*.a"))


@given(CONTENTS, CONTENTS)
def test_applying_the_differences_to_the_old_gives_the_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Except for what does not count; and there are differences exactly if hashes differ."""
    found = COMPARISON.differences(old, new)
    hashes = COMPARISON.hash_of(msgspec.json.encode(old)), COMPARISON.hash_of(msgspec.json.encode(new))
    assert bool(found) == (hashes[0] != hashes[1])
    result: Any = {name: value for name, value in old.items() if name not in {"id", "type"}}
    for difference in found:
        result = applied(result, difference, [part.replace("~1", "/").replace("~0", "~") for part in path_of(difference)])
    assert COMPARISON.differences(result, new) == ()


def path_of(difference: PathDifference) -> list[str]:
    """Return the parts of its path."""
    return difference.path.split("/")[1:]


def applied(value: Any, difference: PathDifference, path: list[str]) -> Any:
    """Return `value` with a difference applied at a path, by names in dicts and in lists."""
    if not path:
        return msgspec.json.decode(difference.new or "")
    name, *rest = path
    if isinstance(value, dict):
        return with_member(value, name, difference, rest)
    keys = ["name", "id"]
    member = next(key for key in keys if all(isinstance(e, dict) and isinstance(e.get(key), str) for e in value)
                  and len({e[key] for e in value}) == len(value))  # fmt: skip
    return list(with_member({element[member]: element for element in value}, name, difference, rest).values())


def with_member(value: dict[str, Any], name: str, difference: PathDifference, rest: list[str]) -> dict[str, Any]:
    """Return `value` with one member changed."""
    if rest:
        return value | {name: applied(value[name], difference, rest)}
    if difference.op is ChangeOp.REMOVED:
        return {key: inner for key, inner in value.items() if key != name}
    return value | {name: msgspec.json.decode(difference.new or "")}
