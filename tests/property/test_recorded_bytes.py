"""The bytes of an answer are in its record as they came, and the record is what a plain decoder makes of the answer."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.recorder.records import AnswerRefused, RecordForm

MS = 1_777_636_805_002
spaces = st.text(" \t\r\n", max_size=2)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
leaves = st.one_of(
    names.map(json.dumps),
    names.map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from(["0", "-0.50", "1e3", "1E-7", "123456789012345678901234567890", "true", "null"]),
)


def _object(members: list[tuple[str, str, str]]) -> str:
    return "{" + ",".join(f"{space}{json.dumps(name)}{space}:{value}" for space, name, value in members) + "}"


def _array(parts: list[tuple[str, str]]) -> str:
    return "[" + ",".join(f"{space}{value}{space}" for space, value in parts) + "]"


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return objects with such values, as text; names may repeat."""
    return st.lists(st.tuples(spaces, names, inner), max_size=3).map(_object)


values = st.recursive(
    leaves, lambda inner: st.one_of(objects(inner), st.lists(st.tuples(spaces, inner), max_size=3).map(_array)), max_leaves=6
)


def decoded(text: bytes) -> Any:
    """Return JSON with the spelling of its numbers and all of its members, also repeated ones."""
    return json.loads(text, parse_int=str, parse_float=str, object_pairs_hook=list)


@given(spaces, values, spaces, names.filter(lambda name: name != "timestamp"))
def test_a_wrapped_answer_is_one_member(before: str, value: str, after: str, wrap: str) -> None:
    """Whatever the answer is, and however it is spelled, its bytes are those after the name."""
    answer = f"{before}{value}{after}".encode()
    (record,) = RecordForm(wrap or "answer").records(answer, MS)
    assert record.endswith(b":" + answer + b"}")
    assert decoded(record) == [("timestamp", str(MS)), (wrap or "answer", decoded(answer))]


@given(spaces, objects(values), spaces)
def test_merged_members_follow_the_time(before: str, value: str, after: str) -> None:
    """All bytes after the brace are kept; if there is a time among the members already, all bytes are."""
    answer = f"{before}{value}{after}".encode()
    (record,) = RecordForm().records(answer, MS)
    members = decoded(answer)
    if "timestamp" in dict(members):
        assert record == answer
    else:
        assert record.endswith(answer.lstrip()[1:])
        assert decoded(record) == [("timestamp", str(MS)), *members]


@given(st.binary(max_size=20) | values.map(str.encode), st.integers(0, 20), st.sampled_from(["", "wrap"]))
def test_any_bytes_give_a_record_or_say_why_not(data: bytes, cut: int, wrap: str) -> None:
    """A record is one JSON object whatever came, also if it was cut off."""
    for answer in (data, data[:cut]):
        with suppress(AnswerRefused):
            (record,) = RecordForm(wrap).records(answer, MS)
            assert "timestamp" in json.loads(record)
