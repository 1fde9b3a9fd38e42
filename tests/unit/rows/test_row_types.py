"""Row types: what is declared is whole, and what was written before has not changed."""

import dataclasses

import pyarrow as pa
import pytest

from libs.common.errors import ConfigError
from libs.common.rows.formats.json import json_lines
from libs.common.rows.row_type import Column, PositionColumns, RowType
from libs.common.rows.types import ROW_TYPES, row_type
from libs.common.rows.types.flows import FLOWS
from libs.common.settings.kafka import TopicSettings

_WORD = pa.dictionary(pa.int32(), pa.string())
_FLOWS_VERSION_1 = pa.schema(
    [
        pa.field("time", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("src_ip", pa.string(), nullable=False),
        pa.field("dst_ip", pa.string(), nullable=False),
        pa.field("src_port", pa.uint16(), nullable=False),
        pa.field("dst_port", pa.uint16(), nullable=False),
        pa.field("protocol", pa.uint8(), nullable=False),
        pa.field("direction", _WORD),
        pa.field("action", _WORD),
        pa.field("state", _WORD),
        pa.field("encryption", _WORD),
        pa.field("packets_sent", pa.int64()),
        pa.field("bytes_sent", pa.int64()),
        pa.field("packets_received", pa.int64()),
        pa.field("bytes_received", pa.int64()),
        pa.field("rule", _WORD),
        pa.field("acl_id", _WORD),
        pa.field("mac", _WORD),
        pa.field("category", _WORD),
        pa.field("flow_log_version", pa.uint8()),
        pa.field("flow_log_id", _WORD),
        pa.field("resource_id", _WORD),
        pa.field("target_id", _WORD),
        pa.field("system_id", _WORD),
        pa.field("record_time", pa.timestamp("ns", tz="UTC")),
        pa.field("blob", _WORD, nullable=False),
        pa.field("generation", _WORD, nullable=False),
        pa.field("record_offset", pa.int64(), nullable=False),
        pa.field("tuple_index", pa.int32(), nullable=False),
    ],
    metadata={"blobtide.schema": "flows", "blobtide.version": "1"},
)


def _toy(**other: object) -> RowType:
    columns = (
        Column("at", pa.timestamp("ms", tz="UTC"), "when", nullable=False),
        Column("run", pa.string(), "of which run", nullable=False),
        Column("of", pa.string(), "of which generation", nullable=False),
        Column("place", pa.int64(), "where", nullable=False),
        Column("number", pa.int32(), "which one", nullable=False),
        Column("name", pa.string(), "of what"),
    )
    toy = RowType("toy", 1, "", columns, "flows", "at", PositionColumns("run", "of", "place", "number"))
    return dataclasses.replace(toy, **other)  # type: ignore[arg-type]


def test_version_1_of_flows_is_what_it_was() -> None:
    """Every field, its type, whether it may be null, the order and the metadata are those that are in topics today."""
    assert FLOWS.version == 1
    assert FLOWS.schema.equals(_FLOWS_VERSION_1, check_metadata=True)
    assert FLOWS.position.names == ("blob", "generation", "record_offset", "tuple_index")


@pytest.mark.parametrize("kind", ROW_TYPES.values(), ids=list(ROW_TYPES))
def test_a_row_type_says_what_its_reference_page_needs(kind: RowType) -> None:
    """Each column has a meaning, each nullable one says what a null means, and the topic is one that settings name."""
    assert kind.description.endswith(".")
    assert [column.name for column in kind.columns if not column.description] == []
    assert [column.name for column in kind.columns if column.nullable != bool(column.null_means)] == []
    assert {kind.topic, *kind.more_topics} <= TopicSettings.model_fields.keys()
    assert kind is row_type(kind.name)


@pytest.mark.parametrize("kind", ROW_TYPES.values(), ids=list(ROW_TYPES))
def test_the_example_of_a_row_type_is_one_of_its_rows(kind: RowType) -> None:
    """It has a value in every column that is never null, and can be shown as JSON."""
    table = kind.example_table
    table.validate(full=True)
    assert [name for name in kind.never_null if table.column(name).null_count] == []
    assert json_lines(table).startswith(b'{"time":"2026-')


def test_an_unknown_row_type_is_an_error_that_names_what_was_meant() -> None:
    """Whoever misspells a row type is told the right name."""
    with pytest.raises(ConfigError, match="unknown row type dead_leters; did you mean dead_letters"):
        row_type("dead_leters")


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ({"columns": (*_toy().columns, _toy().columns[-1])}, "duplicate column"),
        ({"time": "then"}, "no column then"),
        ({"keys": ("nobody",)}, "no column nobody"),
        ({"time": "name"}, "column name may be null"),
        ({"example": {"names": "x"}}, "no column names"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(other: dict[str, object], problem: str) -> None:
    """A column that is named but missing, doubled, or null where a value is needed is found when the type is declared."""
    with pytest.raises(ValueError, match=problem):
        _toy(**other)
