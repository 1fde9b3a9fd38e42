"""Messages of an events queue: any text gives blobs or a problem, and what Event Grid sends is understood."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.messages.dead_letters import ErrorCode
from services.blob_monitor.notices import NoticeReading, read_message
from tests.event_grid import CREATED, cloud_event, encoded, grid_event, plain

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("eventType", "type", "topic", "source", "subject", "eventTime", "time", "data")


def _is_whole(reading: NoticeReading) -> bool:
    """Tell whether something was understood or named as a problem: nothing vanishes."""
    return bool(reading.notices or reading.others or reading.problem)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: base64.b64encode(data).decode()))
def test_any_text_gives_events_or_a_problem(text: str) -> None:
    """Whatever a message holds, nothing is raised."""
    assert _is_whole(read_message(text))


@given(JSON | st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON | st.just(CREATED)), max_size=3))
def test_any_json_gives_events_or_a_problem(value: Any) -> None:
    """JSON of any shape, also one that is nearly an event, raises nothing."""
    text = json.dumps(value)
    assert _is_whole(read_message(text))
    assert _is_whole(read_message(base64.b64encode(text.encode()).decode()))


@given(st.lists(NAMES, min_size=1, max_size=4), st.sampled_from([grid_event, cloud_event]), st.sampled_from([plain, encoded]))
def test_every_schema_and_encoding_is_understood(names: list[str], event: Any, message: Any) -> None:
    """One event or an array, in either schema and encoding, names the same blobs."""
    reading = read_message(message(*(event(name, "logs", "MyAccount") for name in names)))
    assert reading.problem is None
    assert [(notice.account, notice.container, notice.name) for notice in reading.notices] == [
        ("MyAccount", "logs", name) for name in names
    ]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", ErrorCode.BAD_JSON),
        ("not JSON", ErrorCode.BAD_JSON),
        ("{", ErrorCode.BAD_JSON),
        ("[" * 100_000, ErrorCode.BAD_JSON),
        ('{"a":' * 50_000, ErrorCode.BAD_JSON),
        ("[]", ErrorCode.BAD_RECORD),
        ("{}", ErrorCode.BAD_RECORD),
        ("[1]", ErrorCode.BAD_RECORD),
        (plain(grid_event("a") | {"subject": "/blobServices/default/containers/logs"}), ErrorCode.BAD_RECORD),
        (plain(grid_event("a") | {"subject": 5}), ErrorCode.BAD_RECORD),
    ],
)
def test_what_is_no_event_has_a_code(text: str, code: ErrorCode) -> None:
    """What is not JSON and what is no event are told apart."""
    reading = read_message(text)
    assert reading.problem is not None
    assert reading.problem.code is code
    assert not reading.notices


def test_an_array_that_is_broken_in_part_gives_the_rest() -> None:
    """Good events beside a broken one, and beside one of another type, are understood."""
    reading = read_message(plain(grid_event("a"), {"eventType": 7}, grid_event("c", kind="Microsoft.Storage.BlobDeleted")))
    assert [notice.name for notice in reading.notices] == ["a"]
    assert reading.others == 1
    assert reading.problem is not None
