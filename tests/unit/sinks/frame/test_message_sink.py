"""What destinations of one message a row have in common: templates, bounds, what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import ConfigError
from libs.common.messages.dead_letters import ErrorCode
from libs.common.rows.formats.encoders import RowFormat
from libs.common.rows.row_type import RowType
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.contract import Outcome
from services.sinks.frame.message_sink import MESSAGES_AT_ONCE, MessageSettings, MessageSink, RefusedMessage
from tests.documents import document_id, flat_document
from tests.flows import Spot, row, rows
from tests.flows import part as flow_part

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)


class Outbox(MessageSink):
    """Keeps what it is to send, and refuses what it is told to."""

    def __init__(self, refused: Sequence[int] = (), row_type: RowType = FLOWS, **settings: Any) -> None:
        super().__init__(MessageSettings(**settings), row_type)
        self.refused = refused
        self.sent: list[tuple[str, bytes | None, str, bytes]] = []
        self.sizes: list[int] = []

    def objection_to(self, topic: str) -> str | None:
        """Keep one name for others."""
        return "it is ours" if topic.startswith("ours") else None

    def send(
        self, ids: Sequence[str], keys: Sequence[bytes | None], topics: Sequence[str], payloads: Sequence[bytes]
    ) -> Iterable[RefusedMessage]:
        """Keep all."""
        self.sizes.append(len(ids))
        self.sent += zip(ids, keys, topics, payloads, strict=True)
        return [RefusedMessage(at, ErrorCode.TOO_LARGE, "large") for at in self.refused]


def test_a_row_is_a_message_with_its_identity() -> None:
    """By default rows go to one topic as JSON, with their source as key, and their ids are those of documents."""
    sink = Outbox()
    content = rows()
    assert sink.write([flow_part(0, content[:20]), flow_part(1, content[20:])]) == Outcome(len(content))
    assert [one[0] for one in sink.sent] == [document_id(values) for values in content]
    assert [one[1] for one in sink.sent] == [values["blob"].encode() for values in content]
    assert {one[2] for one in sink.sent} == {"blobtide/flows"}
    assert [json.loads(one[3]) for one in sink.sent] == [flat_document(values) for values in content]


def test_topics_and_keys_are_made_of_columns() -> None:
    """A template takes text, words, numbers and nulls of columns; braces may stand in it."""
    sink = Outbox(topic="a/{action}/{protocol}/{state}", key="{{{src_ip}}}-{state}")
    sink.write([flow_part(0, [row(Spot(0, 0, 0)), row(Spot(0, 0, 1))])])
    assert [one[2] for one in sink.sent] == ["a/allow/6/_", "a/allow/17/begin"]
    assert [one[1] for one in sink.sent] == [b"{10.0.0.4}-", b"{10.0.0.4}-begin"]


def test_a_key_of_nothing_is_none() -> None:
    """Where all columns of the key are null, the message has none."""
    sink = Outbox(key="{state}{target_id}")
    sink.write([flow_part(0, [row(Spot(0, 0, 0)), row(Spot(0, 0, 1))])])
    assert [one[1] for one in sink.sent] == [None, b"begin"]


@given(texts)
def test_no_text_of_a_row_makes_levels_or_wildcards(text: str) -> None:
    """Whatever a row holds, a value in a topic has only harmless characters, at least one and not too many."""
    sink = Outbox(topic="f/{rule}/x")
    sink.write([flow_part(0, [row(Spot(0, 0, 0), rule=text)])])
    first, value, last = sink.sent[0][2].split("/")
    assert (first, last) == ("f", "x")
    assert 1 <= len(value) <= 100
    assert all(character.isascii() and (character.isalnum() or character in "._-") for character in value)


def test_there_are_no_more_topics_than_allowed() -> None:
    """Rows whose topic would be one too many are refused by name; those of topics that are known go on."""
    sink = Outbox(topic="{src_port}", max_topics=2)
    content = [row(Spot(0, 0, index), src_port=port) for index, port in enumerate((1, 2, 3, 1, 4, 2))]
    outcome = sink.write([flow_part(0, content)])
    assert [(one.row, one.code) for one in outcome.rejected] == [(2, ErrorCode.REFUSED), (4, ErrorCode.REFUSED)]
    assert "max_topics (2)" in outcome.rejected[0].reason
    assert outcome.written == 4
    assert [one[2] for one in sink.sent] == ["1", "2", "1", "2"]


def test_topics_that_the_destination_objects_to_are_refused() -> None:
    """A row never reaches a topic of somebody else, and its neighbours are sent."""
    sink = Outbox(topic="{rule}")
    outcome = sink.write([flow_part(0, [row(Spot(0, 0, 0)), row(Spot(0, 0, 1), rule="ours"), row(Spot(0, 0, 2))])])
    assert [(one.part, one.row, one.reason) for one in outcome.rejected] == [(0, 1, "it is ours")]
    assert len(sink.sent) == 2


@pytest.mark.parametrize("form", list(RowFormat))
def test_rows_that_are_all_refused_are_all_named(form: RowFormat) -> None:
    """If no row of many can be sent, all of them are in the outcome, whatever the format."""
    sink = Outbox(topic="{rule}", format=form)
    outcome = sink.write([flow_part(0, [row(Spot(0, 0, index), rule="ours") for index in range(5)])])
    assert (outcome.written, [one.row for one in outcome.rejected], sink.sent) == (0, [0, 1, 2, 3, 4], [])


def test_what_is_refused_is_named_by_its_row() -> None:
    """A refusal names a message of one sending; the outcome names its row in the part."""
    sink = Outbox(refused=[1])
    content = [row(Spot(0, record, index)) for record in range(3) for index in range(MESSAGES_AT_ONCE // 2)]
    outcome = sink.write([flow_part(1, content)])
    assert sink.sizes == [MESSAGES_AT_ONCE, MESSAGES_AT_ONCE // 2]
    assert [(one.part, one.row, one.code) for one in outcome.rejected] == [
        (0, 1, ErrorCode.TOO_LARGE),
        (0, MESSAGES_AT_ONCE + 1, ErrorCode.TOO_LARGE),
    ]
    assert outcome.written == len(content) - 2


def test_rows_of_other_types_have_their_name_in_the_topic() -> None:
    """``{rows}`` is the row type, and the key is the source of the row, whatever its column is called."""
    sink = Outbox(row_type=DEAD_LETTERS)
    assert sink._key.columns == ("letter_source",)
    assert sink._topics._template.texts == ("blobtide/dead_letters",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"topic": "a/{acton}"}, "topic: unknown column acton; did you mean action?"),
        ({"key": "{acton}"}, "key: unknown column acton"),
        ({"topic": "a/{action!r}"}, "topic: only column names"),
        ({"topic": "a/{src_port:03}"}, "topic: only column names"),
        ({"topic": "a/{action.x}"}, "topic: unknown column action.x"),
        ({"topic": "a/{action"}, "topic: "),
        ({"topic": "a/}"}, "topic: "),
        ({"topic": "ours/{action}"}, "topic: it is ours"),
        ({"format": "avro", "rename": {"src_ip": "source.ip"}}, "cannot name a field in Avro"),
    ],
)
def test_wrong_templates_are_refused_at_the_start(settings: dict[str, Any], message: str) -> None:
    """What cannot work is said before any row comes."""
    with pytest.raises(ConfigError) as error:
        Outbox(**settings)
    assert message in str(error.value)
