"""The row types that have documents of the Elastic Common Schema, and how each makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import pyarrow as pa

from libs.common.rows.formats.ecs import FIELDS, ecs_columns
from libs.common.rows.formats.ecs_logs import log_columns, log_fields
from libs.common.rows.formats.ecs_rollups import rollup_columns, rollup_fields
from libs.common.rows.row_type import RowType
from libs.common.rows.types.application import APPLICATION
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.http import HTTP
from libs.common.rows.types.proxy import PROXY
from libs.common.rows.types.rollups import ROLLUPS
from libs.common.rows.types.spans import SPANS

EcsColumns = Callable[[pa.Table], dict[str, pa.Array]]
"""Returns rows as columns with ECS names, in the order of the fields; dots nest."""

_COLUMNS: Final[Mapping[str, EcsColumns]] = {
    FLOWS.name: ecs_columns,
    ROLLUPS.name: rollup_columns,
    **{kind.name: partial(log_columns, kind) for kind in (APPLICATION, HTTP, PROXY, SPANS)},
}


def has_ecs(row_type: RowType) -> bool:
    """Return whether the rows of a type can be such documents."""
    return row_type.name in _COLUMNS


def ecs_columns_of(row_type: RowType) -> EcsColumns:
    """Return how rows of a type that has them become the columns of documents."""
    return _COLUMNS[row_type.name]


def ecs_fields_of(row_type: RowType) -> dict[str, str]:
    """Return the fields of documents in their order, each with its type in an index."""
    if row_type is ROLLUPS:
        return rollup_fields()
    return dict(FIELDS) if row_type is FLOWS else log_fields(row_type)
