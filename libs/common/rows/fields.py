"""Columns for values in JSON: each is selected by a JMESPath expression in the column of a row type that holds JSON. Pure.

A value becomes text: text as it is, anything else as JSON. What is missing, null or longer than `MOST_TEXT` is null, and so is
everything if the JSON is none, or does not fit the expression. Each row costs Python's time here, because its JSON is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import msgspec
import pyarrow as pa

from libs.common.errors import ConfigError
from libs.common.expressions import IN_FUNCTIONS, Expression, compiled
from libs.common.rows.row_type import RowType
from libs.common.rows.select import Selected

MOST_FIELDS: Final = 100
MOST_EXPRESSION: Final = 1_000  # characters
MOST_TEXT: Final = 65_536  # bytes


@dataclass(frozen=True, slots=True, eq=False)
class JsonFields:
    """Expressions by the names of their columns, and the column that they search."""

    document: str
    expressions: Mapping[str, Expression]

    @classmethod
    def of(cls, row_type: RowType, fields: Mapping[str, str]) -> Self:
        """Check expressions as given in settings.

        Raises:
            ConfigError: if rows of the type hold no JSON, a name is taken, or an expression is wrong.
        """
        if not row_type.document:
            raise ConfigError(f"fields: rows of type {row_type.name} have no column with JSON")
        if taken := [name for name in fields if name in row_type.names]:
            raise ConfigError(f"fields: {taken[0]} is a column of {row_type.name}; choose another name, and rename it")
        return cls(row_type.document, {name: _checked(name, text) for name, text in fields.items()})

    def select(self, rows: pa.Table) -> Selected:
        """Return all rows with these columns at the end."""
        return Selected(self.add(rows))

    def add(self, rows: pa.Table) -> pa.Table:
        """Return rows with these columns at the end."""
        values = list(self._values(rows.column(self.document).to_pylist()))
        for at, name in enumerate(self.expressions):
            rows = rows.append_column(name, pa.array([value[at] for value in values], pa.string()))
        return rows

    def _values(self, documents: list[str | None]) -> Iterator[list[str | None]]:
        for document in documents:
            decoded = _decoded(document)
            yield [_text(expression, decoded) for expression in self.expressions.values()]


def _checked(name: str, text: str) -> Expression:
    if len(text) > MOST_EXPRESSION:
        raise ConfigError(f"fields.{name} is longer than {MOST_EXPRESSION:,} characters")
    return compiled(text, f"fields.{name}")


def _decoded(document: str | None) -> Any:
    try:
        return None if document is None else msgspec.json.decode(document)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _text(expression: Expression, decoded: Any) -> str | None:
    """Return the text of what an expression selects."""
    try:
        value = None if decoded is None else expression.search(decoded)
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    except IN_FUNCTIONS:  # also what jmespath raises of its own, which are ValueErrors
        return None
    return None if value is None or len(text.encode()) > MOST_TEXT else text
