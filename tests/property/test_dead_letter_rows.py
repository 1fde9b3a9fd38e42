"""Dead letters as rows, and rows as dead letters: no fact is lost, and no message is too odd."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.errors import CodecError
from libs.common.kafka.records import Inbound
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.messages.headers import Headers
from libs.common.rows.letters import RefusedRow, refused_rows
from libs.common.rows.reading import reader_of
from libs.common.rows.row_type import RowType
from libs.common.rows.types import ROW_TYPES
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.wire import decode_rows, encode_rows
from tests.row_batches import batches

READ = reader_of(DEAD_LETTERS, lambda topic: f"id of {topic}")

_NAME = st.text(min_size=1, max_size=8)
_HEADERS = st.lists(st.tuples(_NAME, st.binary(max_size=8)), max_size=4).map(tuple)
_DATA = st.binary(max_size=60) | st.text(max_size=30).map(str.encode)

_LETTERS = st.builds(
    DeadLetter,
    stage=st.sampled_from(["ingest", "parser", "sink.hot"]),
    code=st.sampled_from(ErrorCode),
    reason=st.text(max_size=30),
    data=_DATA,
    key=st.none() | _DATA,
    blob=st.none() | _NAME,
    generation=st.none() | _NAME,
    record_offset=st.none() | st.integers(0, 2**63 - 1),
    tuple_index=st.none() | st.integers(0, 2**31 - 1),
    source=st.fixed_dictionaries(
        {},
        optional={
            "topic": _NAME,
            "partition": st.integers(0, 2**31 - 1).map(str),
            "offset": st.integers(0, 2**63 - 1).map(str),
            "queue": _NAME,
            "message": _NAME,
            "length": st.integers(0, 2**40).map(str),
            "omitted-bytes": st.integers(0, 2**40).map(str),
        },
    ),
    original=_HEADERS,
)


def _message(value: bytes | None, headers: Headers, key: bytes | None = None, timestamp_ms: int = 1_777_636_800_123) -> Inbound:
    return Inbound("Errors", 3, 88, timestamp_ms, key, value, headers)


def _row(message: Inbound) -> dict[str, Any]:
    table = READ(message)
    table.validate(full=True)
    assert table.schema.equals(DEAD_LETTERS.schema, check_metadata=True)
    [row] = decode_rows(DEAD_LETTERS, encode_rows(DEAD_LETTERS, table.to_batches()[0])).to_pylist()
    return dict(row)


def _bytes_of(shown: Any) -> bytes:
    return base64.b64decode(shown["base64"]) if isinstance(shown, dict) else str(shown).encode()


def _pairs(text: str | None) -> list[tuple[str, bytes]]:
    """Return the headers that stand in a JSON object, ordered by name and then as they came."""
    members = json.loads(text) if text is not None else {}
    return [
        (name, _bytes_of(one))
        for name, shown in sorted(members.items())
        for one in (shown if isinstance(shown, list) else [shown])
    ]


@given(letter=_LETTERS)
@settings(max_examples=200)
def test_a_dead_letter_is_a_row_with_all_its_facts(letter: DeadLetter) -> None:
    """Who, why, where, the original bytes, key and headers are in the row as they were in the letter."""
    row = _row(_message(letter.data, letter.headers(), letter.key))
    told = dict(letter.headers())
    assert (row["stage"], row["code"], row["reason"].encode()) == (letter.stage, letter.code.value, told["reason"])
    assert [row[name] for name in ("blob", "generation", "record_offset", "tuple_index")] == [
        letter.blob,
        letter.generation,
        letter.record_offset,
        letter.tuple_index,
    ]
    coordinates = {name: str(row[name]) for name in ("topic", "partition", "offset") if row[name] is not None}
    assert coordinates | json.loads(row["source_details"] or "{}") == letter.source
    text, coded = row["bytes_text"], row["bytes_base64"]
    assert (text is None) != (coded is None)
    assert (text.encode() if coded is None else base64.b64decode(coded)) == letter.data
    assert row["size"] == len(letter.data) + int(letter.source.get("omitted-bytes", 0))
    assert row["key"] == (None if letter.key is None else letter.key.decode(errors="backslashreplace"))
    assert _pairs(row["headers"]) == sorted(letter.original, key=lambda header: header[0])
    assert [row[name] for name in DEAD_LETTERS.position.names] == ["Errors/3", "id of Errors", 88, 0]
    assert row["time"].isoformat() == "2026-05-01T12:00:00.123000+00:00"


_OWN_NAMES = ("type", "stage", "code", "reason", "blob", "generation", "record-offset", "tuple-index")
_MORE_NAMES = (
    "source-topic",
    "source-partition",
    "source-offset",
    "source-omitted-bytes",
    "source-queue",
    "source-",
    "original-",
)
_NAMES = st.sampled_from((*_OWN_NAMES, *_MORE_NAMES)) | st.text(max_size=4)
_VALUES = st.sampled_from([b"dead-letter", b"", b"12", b"-1", b" 7 ", b"1_000", b"9" * 19, b"9" * 400, b"\xff\xfe", b"parser"])
_ODD_MESSAGES = st.builds(
    Inbound,
    topic=st.just("Errors"),
    partition=st.just(0),
    offset=st.integers(0, 2**63 - 1),
    timestamp_ms=st.sampled_from([-(2**63), -1, 0, 253_402_300_800_000, 2**63 - 1]),
    key=st.none() | _DATA,
    value=st.none() | _DATA,
    headers=st.lists(st.tuples(_NAMES, _VALUES | st.binary(max_size=8)), max_size=12).map(tuple),
)


@given(message=_ODD_MESSAGES)
@settings(max_examples=300)
def test_a_dead_letter_is_a_row_however_odd_the_rest_is(message: Inbound) -> None:
    """Headers may be missing, malformed or doubled, the value and the key any bytes and the time any number."""
    own = (("type", b"dead-letter"), ("stage", b"x"), ("code", b"new_code"))
    row = _row(msgspec.structs.replace(message, headers=(*own, *message.headers)))
    assert (row["stage"], row["code"]) == ("x", "new_code")
    assert row["size"] >= len(message.value or b"")


@given(message=_ODD_MESSAGES)
@settings(max_examples=300)
def test_any_message_is_a_row_or_a_codec_error(message: Inbound) -> None:
    """Nothing that stands in the topic ends the process that reads it."""
    with contextlib.suppress(CodecError):
        _row(message)


def test_a_number_that_is_none_is_a_null_and_the_rest_stays() -> None:
    """A letter whose offset cannot be read still has its reason and its bytes."""
    headers = (("type", b"dead-letter"), ("stage", b"parser"), ("code", b"bad_json"), ("record-offset", b"0x10"))
    row = _row(_message(b"{", headers))
    assert (row["record_offset"], row["code"], row["bytes_text"], row["reason"]) == (None, "bad_json", "{", None)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("type", b"segment"), ("stage", b"x"), ("code", b"y")),
        (("type", b"dead-letter"), ("code", b"y")),
        (("type", b"dead-letter"), ("stage", b"x")),
    ],
)
def test_what_is_no_dead_letter_is_a_codec_error(headers: Headers) -> None:
    """A message of another origin, or one that does not say who gave up and why, is not made up into a row."""
    with pytest.raises(CodecError, match="not a dead letter"):
        READ(_message(b"x", headers))


def test_a_megabyte_of_bytes_that_are_no_text_fits_in_a_row() -> None:
    """The largest letter that a topic takes by default is there as base64."""
    data = bytes(range(256)) * 4_096
    row = _row(_message(data, DeadLetter("parser", ErrorCode.BAD_JSON, "", data).headers()))
    assert base64.b64decode(row["bytes_base64"]) == data


@pytest.mark.parametrize("kind", ROW_TYPES.values(), ids=list(ROW_TYPES))
@given(data=st.data())
@settings(max_examples=40)
def test_a_row_that_is_given_up_is_a_dead_letter_and_then_a_row_again(kind: RowType, data: st.DataObject) -> None:
    """A refused row of any type leaves with its position and its values, and is found by them among the dead letters."""
    batch = data.draw(batches(kind, max_rows=4))
    why = [RefusedRow(ErrorCode.REFUSED, f"no {number}", {"offset": str(number)}) for number in range(batch.num_rows)]
    letters = list(refused_rows(kind, "sink.hot", pa.Table.from_batches([batch]), why))
    assert len(letters) == batch.num_rows
    for number, (letter, values) in enumerate(zip(letters, batch.to_pylist(), strict=True)):
        row = _row(_message(letter.data, letter.headers(), letter.key))
        names = ("blob", "generation", "record_offset", "tuple_index")
        assert [row[name] for name in names] == [values[name] for name in kind.position.names]
        assert (row["stage"], row["code"], row["reason"], row["offset"]) == ("sink.hot", "refused", f"no {number}", number)
        document = json.loads(row["bytes_text"])
        assert document.keys() == {name for name, value in values.items() if value is not None}
