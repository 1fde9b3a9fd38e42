"""ClickHouse tables: from a schema to statements, and what an existing table lacks."""

from __future__ import annotations

import pyarrow as pa
import pytest

from libs.common.errors import ConfigError
from libs.common.rows.row_type import WORD, Column, PositionColumns, RowType
from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.table import Names
from services.sinks.kinds.clickhouse.table import Layout, TableName, column_type, fits, layout

LATEST = RowType(
    name="latest",
    version=1,
    description="rows of which the newest wins",
    columns=(
        Column("at", pa.timestamp("s", tz="UTC"), "when", nullable=False),
        Column("id", pa.string(), "what", nullable=False),
        Column("part", WORD, "of it"),
        Column("s", WORD, "source", nullable=False),
        Column("g", WORD, "generation", nullable=False),
        Column("o", pa.int64(), "offset", nullable=False),
        Column("i", pa.int32(), "index", nullable=False),
    ),
    topic="flows",
    time="at",
    position=PositionColumns("s", "g", "o", "i"),
    keys=("id", "part"),
)
NAME = TableName("logs", "rows")


def of(row_type: RowType, ttl_days: int = 0) -> Layout:
    """Return the layout of a row type as it is."""
    return layout(NAME, row_type.schema, Names.of(row_type, {}), {}, ttl_days)


def as_made(wanted: Layout) -> dict[str, str]:
    """Return what a server says of a table that was made so."""
    return {column.name: column.type for column in wanted.columns}


@pytest.mark.parametrize(
    ("kind", "nullable", "expected"),
    [
        (pa.bool_(), False, "Bool"),
        (pa.uint8(), True, "Nullable(UInt8)"),
        (pa.int64(), False, "Int64"),
        (pa.float64(), False, "Float64"),
        (pa.string(), True, "Nullable(String)"),
        (pa.large_string(), False, "String"),
        (pa.binary(), False, "String"),
        (WORD, False, "LowCardinality(String)"),
        (WORD, True, "LowCardinality(Nullable(String))"),
        (pa.timestamp("s", tz="UTC"), False, "DateTime64(0, 'UTC')"),
        (pa.timestamp("ms", tz="UTC"), False, "DateTime64(3, 'UTC')"),
        (pa.timestamp("ns", tz="UTC"), True, "Nullable(DateTime64(9, 'UTC'))"),
        (pa.decimal128(18, 4), False, "Decimal(18, 4)"),
    ],
)
def test_every_type_has_its_counterpart(kind: pa.DataType, nullable: object, expected: str) -> None:
    """Types keep their width; only what may be null is Nullable; text that repeats is of low cardinality."""
    assert column_type(pa.field("c", kind, nullable=bool(nullable))) == expected


def test_a_type_without_counterpart_is_named() -> None:
    """A column of a type that the table cannot have is named with its type."""
    with pytest.raises(ConfigError, match="columns: tags is of type list<item: string>, which has no counterpart"):
        column_type(pa.field("tags", pa.list_(pa.string())))


def test_rows_are_ordered_by_hour_and_position() -> None:
    """A table is cut by days and ordered so that two rows of one position meet in a merge."""
    statement = of(FLOWS).create
    assert "ENGINE = ReplacingMergeTree\nPARTITION BY toYYYYMMDD(`time`)\n" in statement
    order = "(toStartOfHour(`time`), `blob`, `generation`, `record_offset`, `tuple_index`)"
    assert f"ORDER BY {order}\nSETTINGS non_replicated_deduplication_window = 1000" in statement
    assert "TTL" not in statement
    assert "TTL toDateTime(`time`) + toIntervalDay(90)\n" in of(FLOWS, ttl_days=90).create


def test_rows_of_which_the_newest_wins_are_ordered_by_their_keys() -> None:
    """Where a row type has keys, the newest row of each stays, whatever day the older ones are of."""
    statement = of(LATEST).create
    assert "ENGINE = ReplacingMergeTree(`at`)\nORDER BY (`id`, `part`)\n" in statement
    assert "PARTITION" not in statement
    assert statement.endswith("allow_nullable_key = 1")


def test_names_and_comments_are_quoted() -> None:
    """A name or a comment cannot end the place where it stands."""
    schema = pa.schema([pa.field("a`b\\", pa.int8(), nullable=False)])
    statement = layout(TableName("d`", "t"), schema, Names.of(FLOWS, {}), {"a`b\\": "it's \\"}).create
    assert r"CREATE TABLE IF NOT EXISTS `d\``.`t`" in statement
    assert r"`a\`b\\` Int8 COMMENT 'it\'s \\'" in statement


def test_renamed_columns_keep_their_part() -> None:
    """Time and position are found under the names that they have in the table."""
    names = Names.of(FLOWS, {"time": "@timestamp", "blob": "log.file.path"})
    assert names.time == "@timestamp"
    assert names.position == ("log.file.path", "generation", "record_offset", "tuple_index")


def test_a_table_as_it_should_be_lacks_nothing() -> None:
    """What was made for a row type fits it."""
    assert of(FLOWS).missing(as_made(of(FLOWS))) == ()


def test_columns_that_are_missing_are_added() -> None:
    """New columns are added with their types; those that only the table has are left alone."""
    existing = as_made(of(FLOWS)) | {"own": "String"}
    del existing["rule"], existing["bytes_sent"]
    missing = of(FLOWS).missing(existing)
    assert [column.name for column in missing] == ["bytes_sent", "rule"]
    assert of(FLOWS).add(missing) == (
        "ALTER TABLE `logs`.`rows` ADD COLUMN IF NOT EXISTS `bytes_sent` Nullable(Int64),"
        " ADD COLUMN IF NOT EXISTS `rule` LowCardinality(Nullable(String))"
    )


def test_changed_types_are_refused_with_all_their_names() -> None:
    """A table whose columns have other types is left alone, and the message names each."""
    existing = as_made(of(FLOWS)) | {"src_port": "String", "bytes_sent": "Int64"}
    with pytest.raises(ConfigError) as raised:
        of(FLOWS).missing(existing)
    assert (
        "table logs.rows does not match: column src_port is String, but the rows have UInt16; column bytes_sent is Int64,"
        in str(raised.value)
    )


def test_a_table_without_identity_is_refused() -> None:
    """A position cannot be added to a table of others' rows: its old rows would have none."""
    existing = as_made(of(FLOWS))
    del existing["record_offset"]
    with pytest.raises(ConfigError, match="column record_offset is missing, by which rows are told apart"):
        of(FLOWS).missing(existing)


@pytest.mark.parametrize(
    ("wanted", "existing", "expected"),
    [
        ("LowCardinality(String)", "String", True),
        ("Nullable(String)", "LowCardinality(Nullable(String))", True),
        ("String", "Nullable(String)", True),
        ("Nullable(String)", "String", False),
        ("DateTime64(3, 'UTC')", "DateTime64(3)", True),
        ("DateTime64(3, 'UTC')", "DateTime64(3, 'Europe/Berlin')", True),
        ("DateTime64(3, 'UTC')", "DateTime64(0, 'UTC')", False),
        ("Decimal(18, 4)", "Decimal(18,4)", True),
        ("Int64", "Int32", False),
    ],
)
def test_what_fits_is_what_keeps_every_value(wanted: str, existing: str, expected: object) -> None:
    """Low cardinality, time zones and more null than needed are the operator's choice; a narrower type is not."""
    assert fits(wanted, existing) is expected
