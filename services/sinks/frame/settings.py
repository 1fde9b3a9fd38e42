"""Settings common to all sinks; each sink's own group derives from `SinkSettings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import pyarrow as pa
from pydantic import Field, StringConstraints, field_validator

from libs.common.errors import ConfigError
from libs.common.rows.fields import MOST_FIELDS, JsonFields
from libs.common.rows.row_type import RowType
from libs.common.rows.select import Selection
from libs.common.rows.shape import Shape
from libs.common.settings.base import Group, listed
from libs.common.settings.kafka import TopicSettings

_SMALLER_WITH_WHERE: Final = 4

FieldName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
"""Name of a column that the settings add."""


class BatchSettings(Group):
    """The size of a write. Larger batches need more memory and add latency, but save round trips and fsyncs."""

    seconds: float = Field(default=1.0, gt=0, le=5, description="Seconds for which one poll collects messages.")
    messages: int = Field(default=1_000, ge=1, description="Messages after which a poll ends early.")
    bytes: int = Field(
        default=8_388_608,
        ge=100_000,
        description="Bytes after which a poll ends early. With where, the default is a quarter of it.",
    )


class DocumentBatchSettings(BatchSettings):
    """Smaller batches: columns take ten times as many bytes as JSON, and a write should take seconds, not minutes."""

    bytes: int = Field(
        default=4_194_304,
        ge=100_000,
        description="Bytes after which a poll ends early. With where, the default is a quarter of it.",
    )


class SinkSettings(Group):
    """Settings of every sink."""

    rows: str = Field(default="flows", description="Row type: one of those in docs/reference/rows, if the kind takes it.")
    read_topic: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
        description="Topic to read these rows from, such as that of an aggregation. Default: that of the row type.",
    )
    where: str | None = Field(
        default=None, description="SQL condition over the columns of the row type. Only rows that meet it are written."
    )
    columns: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Columns to write, in this order: a list, or comma-separated. Default: all."
    )
    rename: dict[str, str] = Field(default_factory=dict, description="New column names, as old: new. A dot nests in JSON.")
    fields: dict[FieldName, str] = Field(
        default_factory=dict,
        max_length=MOST_FIELDS,
        description="More columns, as name: JMESPath expression, for values in the JSON of a row: `record` of snapshots, "
        "`data` of results, `properties` of resources. Text as it is, anything else as JSON; what is missing is null.",
    )
    sample: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Share of the rows to write. A replay chooses the same rows; each carries its sample_weight.",
    )
    batch: BatchSettings = BatchSettings()
    dead_letter_limit: float = Field(
        default=0.5, gt=0, le=1, description="Share of rows that may be dead-lettered before the sink stops; 1 never stops it."
    )

    @field_validator("columns", mode="before")
    @classmethod
    def _columns_listed(cls, columns: object) -> object:
        return listed(columns)

    def source_topic(self, row_type: RowType, topics: TopicSettings) -> str:
        """Return the topic that the sink reads."""
        usual: str = getattr(topics, row_type.topic)
        return self.read_topic or usual

    @property
    def poll_bytes(self) -> int:
        """Bytes after which a poll ends early: fewer with a condition, whose engine needs about 50 MB of memory."""
        is_chosen = self.where is None or "bytes" in self.batch.model_fields_set
        return self.batch.bytes if is_chosen else self.batch.bytes // _SMALLER_WITH_WHERE

    @property
    def state_directory(self) -> Path | None:
        """The directory of the sink's state; None if it keeps no state on disk."""
        return None

    def memory(self, row_type: RowType) -> str | None:
        """Return, in words, where the sink records how far it has written; None if it does not, or if it records each row.

        Two sinks with the same memory would mistake each other's rows for their own.
        """
        del row_type
        return None if self.state_directory is None else f"the directory {self.state_directory.resolve()}"

    def selection(self, row_type: RowType) -> Selection:
        """Return which rows are written. Raises `ConfigError`."""
        try:
            return Selection.of(row_type, self.where, self.sample)
        except ConfigError as error:  # the share has already been checked
            raise ConfigError(f"where: {error}") from error

    def selected_fields(self, row_type: RowType) -> JsonFields | None:
        """Return the columns for values in JSON; None if there are none. Raises `ConfigError`."""
        return JsonFields.of(row_type, self.fields) if self.fields else None

    def shape(self, row_type: RowType) -> Shape:
        """Return which columns are written, and their names. Raises `ConfigError`."""
        return Shape.of(row_type, self.columns, self.rename, added=self._added(row_type))

    def rows_schema(self, row_type: RowType) -> pa.Schema:
        """Return the schema of the incoming rows: that of their type, plus the weight if they are sampled, and the fields."""
        schema = row_type.schema
        for name in self._weight(row_type):
            schema = schema.append(pa.field(name, pa.float64(), nullable=False))
        for name in self.fields:
            schema = schema.append(pa.field(name, pa.string()))
        return schema

    def _added(self, row_type: RowType) -> tuple[str, ...]:
        return (*self._weight(row_type), *self.fields)

    def _weight(self, row_type: RowType) -> tuple[str, ...]:
        return Selection.of(row_type, sample=self.sample).added
