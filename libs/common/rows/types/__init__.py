"""The row types, each in its own module, and the table that lists them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from libs.common.errors import ConfigError
from libs.common.rows.row_type import RowType
from libs.common.rows.types.application import APPLICATION
from libs.common.rows.types.dead_letters import DEAD_LETTERS
from libs.common.rows.types.flows import FLOWS
from libs.common.rows.types.http import HTTP
from libs.common.rows.types.proxy import PROXY
from libs.common.rows.types.resource_changes import RESOURCE_CHANGES
from libs.common.rows.types.resources import RESOURCES
from libs.common.rows.types.results import RESULTS
from libs.common.rows.types.rollups import ROLLUPS
from libs.common.rows.types.snapshots import SNAPSHOTS
from libs.common.rows.types.spans import SPANS
from libs.common.suggestions import did_you_mean

ROW_TYPES: Final[Mapping[str, RowType]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            FLOWS,
            ROLLUPS,
            APPLICATION,
            HTTP,
            PROXY,
            SPANS,
            SNAPSHOTS,
            RESULTS,
            RESOURCES,
            RESOURCE_CHANGES,
            DEAD_LETTERS,
        )
    }
)
"""Every row type by name. To add one, add a module here and an entry in this table."""


def row_type(name: str) -> RowType:
    """Return the row type of that name.

    Raises:
        ConfigError: if there is none; the message names those that exist.
    """
    found = ROW_TYPES.get(name)
    if found is None:
        raise ConfigError(f"unknown row type {name}{did_you_mean(name, ROW_TYPES)}; known row types are {', '.join(ROW_TYPES)}")
    return found
