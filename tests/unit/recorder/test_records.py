"""How answers become records."""

from __future__ import annotations

import json

import pytest

from libs.common.errors import ConfigError
from libs.common.expressions import compiled
from libs.common.messages.dead_letters import ErrorCode
from services.recorder.records import AnswerRefused, RecordForm

MS = 1_777_636_805_002


@pytest.mark.parametrize(
    ("form", "answer", "record"),
    [
        (RecordForm("flowinfo"), b'[{"a":1.50}]', b'{"timestamp":1777636805002,"flowinfo":[{"a":1.50}]}'),
        (RecordForm('f"'), b"1e999", b'{"timestamp":1777636805002,"f\\"":1e999}'),
        (RecordForm(), b'{"nodes":[],"edges":[]}', b'{"timestamp":1777636805002,"nodes":[],"edges":[]}'),
        (RecordForm(), b' \n{ "a" : 1,\r\n"a":2 }\n', b'{"timestamp":1777636805002, "a" : 1,\r\n"a":2 }\n'),
        (RecordForm(), b"{}", b'{"timestamp":1777636805002}'),
        (RecordForm(), b'{"a":0,"timestamp":7}', b'{"a":0,"timestamp":7}'),
    ],
    ids=["wrapped", "any name", "merged", "as spelled", "empty", "own timestamp"],
)
def test_a_record_is_the_time_and_the_answers_own_bytes(form: RecordForm, answer: bytes, record: bytes) -> None:
    """The two forms of the Network State Recorder; a time that the answer states itself stands, as it did there."""
    assert form.records(answer, MS) == [record]
    assert "timestamp" in json.loads(record)


@pytest.mark.parametrize(
    ("items", "wrap", "records"),
    [
        ("flows", "", [{"rate": 1.5, "id": 2**70}, {"rate": 2.0}]),
        ("flows[?rate > `1.7`]", "", [{"rate": 2.0}]),
        ("flows[].rate", "rate", [{"rate": 1.5}, {"rate": 2.0}]),
        ("{count: length(flows), up: up}", "", [{"count": 2, "up": None}]),
        ("flows[?rate > `9`]", "", []),
    ],
)
def test_items_become_records_of_their_own(items: str, wrap: str, records: list[dict[str, object]]) -> None:
    """An expression selects a list, whose elements are the records; anything else that it makes is one record."""
    answer = b'{"flows":[{"rate":1.5,"id":%d},{"rate":2.0}],"up":null}' % 2**70
    found = RecordForm(wrap, compiled(items)).records(answer, MS)
    assert [json.loads(one) for one in found] == [{"timestamp": MS, **one} for one in records]


@pytest.mark.parametrize(
    ("form", "answer", "code", "reason"),
    [
        (RecordForm(), b"<html>", ErrorCode.BAD_JSON, "the answer is no JSON"),
        (RecordForm("a"), b"", ErrorCode.BAD_JSON, "the answer is no JSON"),
        (RecordForm("a"), b'{"a":1} {"a":2}', ErrorCode.BAD_JSON, "the answer is no JSON"),
        (RecordForm("a"), b'{"a":"\xff"}', ErrorCode.BAD_TEXT, "not UTF-8 at byte 6"),
        (RecordForm(), b"[1]", ErrorCode.BAD_RECORD, "set wrap"),
        (RecordForm("a"), b"[" * 9_999 + b"]" * 9_999, ErrorCode.BAD_RECORD, "nested too deeply"),
        (RecordForm("", compiled("flows")), b'{"other":1}', ErrorCode.BAD_RECORD, "items selects nothing"),
        (RecordForm("", compiled("flows")), b'{"flows":[{},1]}', ErrorCode.BAD_RECORD, "set wrap"),
        (RecordForm("", compiled("sum(flows)")), b'{"flows":["x"]}', ErrorCode.BAD_RECORD, "items does not fit"),
        (
            RecordForm("", compiled("max_by(f, &x)")),
            b'{"f":[{"x":1},{"x":"a"}]}',
            ErrorCode.BAD_RECORD,
            "does not fit.*TypeErr",
        ),
        (
            RecordForm("a", compiled("@")),
            b"[" + b"0," * 100_000 + b"0]",
            ErrorCode.TOO_LARGE,
            "100,001 items, more than 100,000",
        ),
        (RecordForm("a", compiled("f[::0]")), b'{"f":[1]}', ErrorCode.BAD_RECORD, "does not fit.*step"),
        (RecordForm("a", compiled("ceil(to_number(f))")), b'{"f":"1e999"}', ErrorCode.BAD_RECORD, "does not fit.*infinity"),
        (RecordForm("a", compiled("[&flows]")), b'{"flows":1}', ErrorCode.BAD_RECORD, "items selects what is no JSON"),
    ],
)
def test_what_no_record_can_be_made_of_says_why(form: RecordForm, answer: bytes, code: ErrorCode, reason: str) -> None:
    """Text that is no JSON, and JSON of another shape, are told apart."""
    with pytest.raises(AnswerRefused, match=reason) as refused:
        form.records(answer, MS)
    assert refused.value.code is code


def test_what_is_said_of_an_answer_does_not_repeat_all_of_it() -> None:
    """The library quotes the value that does not fit, however long it is."""
    with pytest.raises(AnswerRefused) as refused:
        RecordForm("", compiled("abs(flows)")).records(b'{"flows":"%s"}' % (b"x" * 100_000), MS)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("items", ["flows[", "nosuch(@)", "length()", "(" * 2_000])
def test_an_expression_that_cannot_work_is_refused_at_the_start(items: str) -> None:
    """Wrong syntax, unknown functions and wrong numbers of arguments are mistakes of whoever wrote the settings."""
    with pytest.raises(ConfigError, match="items is not a JMESPath expression"):
        compiled(items)


def test_an_expression_is_not_refused_for_what_it_makes_of_no_answer() -> None:
    """Whether it works depends on the answer."""
    form = RecordForm("a", compiled("contains('ab', kind) && [@]"))
    assert form.records(b'{"kind":"a"}', MS) == [b'{"timestamp":%d,"a":{"kind":"a"}}' % MS]
