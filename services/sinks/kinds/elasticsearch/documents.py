"""Turn rows into documents, and declare their fields for the index template.

Whatever the format, a document has the row's time as ``@timestamp``: data streams and most log tools expect it there.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from libs.common.errors import ConfigError
from libs.common.rows.formats.ecs_types import has_ecs
from libs.common.rows.formats.encoders import RowFormat, documents_for
from libs.common.rows.formats.json import document_text
from libs.common.rows.row_text import TextColumn
from libs.common.rows.row_type import RowType
from libs.common.rows.shape import Shape
from services.sinks.kinds.elasticsearch.index import Fields, ecs_fields, plain_fields
from services.sinks.kinds.elasticsearch.panels import DashboardFields

_TIMESTAMP: Final = "@timestamp"


class DocumentMaker:
    """Makes documents from rows of one type."""

    def __init__(self, form: RowFormat | None, row_type: RowType, shape: Shape, schema: pa.Schema) -> None:
        """`schema` is that of the incoming rows. Raises `ConfigError` if the arguments do not match."""
        chosen = form or (RowFormat.ECS if has_ecs(row_type) else RowFormat.JSON)
        if chosen not in (RowFormat.ECS, RowFormat.JSON):
            raise ConfigError(f"format: an index supports ecs or json, not {chosen.value}")
        self._ecs = documents_for(chosen, row_type, shape) if chosen is RowFormat.ECS else None
        self._shape = _with_timestamp(shape, row_type)
        if self._ecs is None:
            self._fields = plain_fields(self._shape.apply(schema.empty_table()).schema)
        else:
            added = plain_fields(pa.schema([field for field in schema if field.name not in row_type.names]))
            self._fields = {**ecs_fields(row_type), **{f"blobtide.{name}": field for name, field in added.items()}}

    @property
    def fields(self) -> Fields:
        """The fields for the index template."""
        return self._fields

    @property
    def arrival_field(self) -> str:
        """The field in which an ingest pipeline may record when a document arrived."""
        return "ingested" if self._ecs is None else "event.ingested"

    def described(self, weight: str | None) -> DashboardFields:
        """Return what a dashboard has to know of the documents; `weight` is the column with the weight of a sample's rows."""
        if self._ecs is None:
            names = dict(zip(self._shape.columns, self._shape.names, strict=True))
            return DashboardFields(self._fields, names, weight=None if weight is None else names.get(weight))
        return DashboardFields.of_flows_in_ecs(
            self._fields, self._shape.columns, None if weight is None else f"blobtide.{weight}"
        )

    def text_columns(self, rows: pa.Table) -> list[TextColumn]:
        """Return the text columns of one document per row."""
        return document_text(self._shape.apply(rows)) if self._ecs is None else self._ecs.text_columns(rows)


def _with_timestamp(shape: Shape, row_type: RowType) -> Shape:
    """Return `shape` with the time as the first field, named ``@timestamp``."""
    others = [at for at, name in enumerate(shape.columns) if name != row_type.time]
    if _TIMESTAMP in (shape.names[at] for at in others):
        raise ConfigError(f"rename: {_TIMESTAMP} is the row's time in every document")
    columns = (row_type.time, *(shape.columns[at] for at in others))
    return Shape(columns, (_TIMESTAMP, *(shape.names[at] for at in others)))
