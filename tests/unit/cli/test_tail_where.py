"""`blobtide tail --where`: which rows are shown."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from libs.common.errors import ConfigError
from libs.common.kafka.records import Inbound
from libs.common.messages.dead_letters import DeadLetter, ErrorCode
from libs.common.rows.formats.line import FlowLines
from libs.common.rows.reading import reader_of
from libs.common.rows.row_type import RowType
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.resource_changes import RESOURCE_CHANGES
from libs.common.rows.types.resources import RESOURCES
from libs.common.rows.types.rollups import ROLLUPS
from libs.common.rows.wire import encode_rows, row_headers
from libs.common.settings.kafka import TopicSettings
from services.cli.tail.command import command
from services.cli.tail.render import AsRows, Output, render
from services.cli.tail.where import FilteredReader, json_rows_in, row_type_of
from tests.flows import Spot, row, table

TOPICS = TopicSettings()


def batch(*actions: str) -> Inbound:
    """Return a message with a flow of each action."""
    rows = table([row(Spot(0, n, 0), action=action) for n, action in enumerate(actions)])
    return Inbound(TOPICS.flows, 0, 7, 0, None, encode_rows(FLOWS, rows.combine_chunks().to_batches()[0]), row_headers(FLOWS))


def letter(code: ErrorCode) -> Inbound:
    """Return a dead letter."""
    headers = DeadLetter(stage="parser", code=code, reason="broken", data=b"x").headers()
    return Inbound(TOPICS.errors, 0, 3, 0, None, b"x", headers)


def filtered(row_type: RowType, where: str) -> FilteredReader:
    """Return what reads rows that meet a condition."""
    return FilteredReader.of(reader_of(row_type, lambda _topic: "id"), row_type, where)


@pytest.mark.parametrize("output", list(Output))
def test_flows_that_do_not_meet_the_condition_are_left_out(output: Output) -> None:
    """Of a batch, the rows that meet the condition are shown; the others are counted."""
    read = filtered(FLOWS, "action = 'deny'")
    record = batch("deny", "allow", "deny", "allow", "allow")
    shown = list(render(record, output, FlowLines(), AsRows(FLOWS, read)))
    assert len(shown) == 2
    assert all("deny" in line for line in shown)
    assert read.filtered == 3
    if output is Output.JSON:
        assert [json.loads(line)["value"]["record_offset"] for line in shown] == [20, 2020]


@pytest.mark.parametrize("output", list(Output))
def test_batch_of_which_nothing_is_left(output: Output) -> None:
    """A batch without such a row shows nothing."""
    read = filtered(FLOWS, "action = 'drop'")
    assert list(render(batch("deny", "allow"), output, FlowLines(), AsRows(FLOWS, read))) == []
    assert read.filtered == 2


def test_dead_letters_are_rows_too() -> None:
    """A condition over errors looks at the columns of dead letters."""
    read = filtered(DEAD_LETTERS, "code = 'short_tuple' and stage = 'parser'")
    rows = AsRows(DEAD_LETTERS, read)
    shown = [
        len(list(render(letter(code), Output.TEXT, FlowLines(), rows))) for code in (ErrorCode.SHORT_TUPLE, ErrorCode.BAD_JSON)
    ]
    assert shown == [1, 0]
    assert read.filtered == 1


def test_what_cannot_be_read_is_shown() -> None:
    """A condition hides only what was judged: a message that cannot be read is shown with the reason."""
    rows = AsRows(FLOWS, filtered(FLOWS, "action = 'deny'"))
    broken = Inbound(TOPICS.flows, 0, 7, 0, None, b"x", row_headers(FLOWS))
    assert ["undecodable" in line for line in render(broken, Output.TEXT, FlowLines(), rows)] == [True]


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        ([], FLOWS),
        ([TOPICS.flows], FLOWS),
        ([TOPICS.errors], DEAD_LETTERS),
        ([TOPICS.rollups, TOPICS.rollups_1h], ROLLUPS),
        ([TOPICS.flows] * 2, FLOWS),
    ],
)
def test_topics_say_which_rows(topics: list[str], expected: RowType) -> None:
    """The topics say which columns a condition may name; without topics, it is those of flows."""
    assert row_type_of(topics, TOPICS) is expected


@pytest.mark.parametrize(
    "topics", [[TOPICS.flows, TOPICS.errors], [TOPICS.raw_flow_logs], [TOPICS.flows, TOPICS.blobs], ["Unknown"]]
)
def test_topics_must_carry_rows_of_one_type(topics: list[str]) -> None:
    """A condition is over the rows of one type, so other topics are refused."""
    with pytest.raises(ConfigError, match=r"flows, rollups, .*, snapshots, collection_results, resources, .* or errors"):
        row_type_of(topics, TOPICS)


@pytest.mark.parametrize("arguments", [["flows"], [], ["--rows", "flows"]])
def test_wrong_conditions_end_the_command(arguments: list[str]) -> None:
    """A wrong condition is refused before anything is read."""
    result = CliRunner().invoke(command, [*arguments, "--where", "acton = 'deny'"])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith("--where: condition \"acton = 'deny'\": unknown column acton; did you mean action?")


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        ([TOPICS.resources], RESOURCES),
        ([TOPICS.resource_changes] * 2, RESOURCE_CHANGES),
        ([TOPICS.resources, TOPICS.resource_changes], None),
        ([TOPICS.resources, TOPICS.flows], None),
        ([TOPICS.flows], None),
        ([], None),
    ],
)
def test_resources_are_shown_as_rows_without_being_told(topics: list[str], expected: RowType | None) -> None:
    """Their messages do not say what they hold, so the topic does, if there is no other one."""
    assert json_rows_in(topics, TOPICS) is expected
