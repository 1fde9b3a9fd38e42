"""The routing key of each row: from a template, or by default after the log that the row comes from.

A topic exchange compares routing keys word by word, and dots separate words. So a value contributes neither dots nor wildcards.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from libs.common.errors import ConfigError
from libs.common.rows.row_type import RowType
from services.sinks.frame.template import Template
from services.sinks.kinds.amqp.frames import LONGEST_TEXT

_UNSAFE: Final = r"[^A-Za-z0-9_-]"
_CATEGORY: Final = "category"
_BY_CATEGORY: Final = {
    "NetworkSecurityGroupFlowEvent": "flowlog.nsg",
    "FlowLogFlowEvent": "flowlog.vnet",
}
_OTHER: Final = "flowlog.other"


class RoutingKeys:
    """Makes routing keys."""

    def __init__(self, template: str | None, row_type: RowType) -> None:
        """Check the template. Raises `ConfigError`."""
        self._by_category = template is None and _CATEGORY in row_type.names
        text = template or row_type.name
        self._template = Template.parse("routing_key", text.replace("{rows}", row_type.name), row_type)
        if (objection := _objection("".join(self._template.texts))) is not None:
            raise ConfigError(f"routing_key: {objection}")

    def of(self, rows: pa.Table) -> tuple[list[str], list[str | None]]:
        """Return the routing key of each row, and why it cannot be used (None if it can)."""
        words = _log_names(rows.column(_CATEGORY)) if self._by_category else self._template.topics(rows, _UNSAFE)
        names = words.dictionary.to_pylist()
        objections = [_objection(name) for name in names]
        codes = words.indices.to_pylist()
        return [names[code] for code in codes], [objections[code] for code in codes]


def _log_names(categories: pa.ChunkedArray) -> pa.DictionaryArray:
    """Return the routing key of each category."""
    column = categories.unify_dictionaries().combine_chunks()
    words = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    keys = [_BY_CATEGORY.get(word, _OTHER) for word in words.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(words.indices.fill_null(len(keys)), pa.array([*keys, _OTHER], pa.string()))


def _objection(key: str) -> str | None:
    size = len(key.encode())
    return None if size <= LONGEST_TEXT else f"a routing key has at most {LONGEST_TEXT} bytes, not {size}"
