"""Which columns of rows a destination gets, in which order and under which names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import pyarrow as pa

from libs.common.errors import ConfigError
from libs.common.rows.row_type import RowType
from libs.common.suggestions import did_you_mean


@dataclass(frozen=True, slots=True)
class Shape:
    """Columns in order, and the name of each at the destination. A dot in a name nests in JSON: ``source.ip``."""

    columns: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def of(
        cls,
        row_type: RowType,
        columns: Sequence[str] | None = None,
        rename: Mapping[str, str] | None = None,
        *,
        added: Sequence[str] = (),
    ) -> Self:
        """Choose `columns` (None: all), and rename those in `rename` from old to new names.

        `added` are columns that rows have in addition to those of their type, such as ``sample_weight``. They come last unless
        `columns` places them elsewhere.

        Raises:
            ConfigError: for an unknown or duplicate column, or for names that are empty, duplicate or nested in one another.
        """
        known = (*row_type.names, *added)
        chosen = known if columns is None else (*columns, *(name for name in added if name not in columns))
        if not chosen:
            raise ConfigError("columns: name at least one column")
        _check_columns(chosen, known, row_type)
        _check_rename(rename or {}, chosen, known, row_type)
        names = tuple((rename or {}).get(name, name) for name in chosen)
        _check_names(names)
        return cls(chosen, names)

    def apply(self, rows: pa.Table) -> pa.Table:
        """Return the chosen columns of `rows` under their new names, without copying."""
        return rows.select(self.columns).rename_columns(self.names)


def _check_columns(chosen: Iterable[str], known: Sequence[str], row_type: RowType) -> None:
    seen = set()
    for name in chosen:
        if name not in known:
            raise ConfigError(f"columns: {unknown_column(name, known, row_type)}")
        if name in seen:
            raise ConfigError(f"columns: duplicate column {name}")
        seen.add(name)


def _check_rename(rename: Mapping[str, str], chosen: Sequence[str], known: Sequence[str], row_type: RowType) -> None:
    for name in rename:
        if name not in known:
            raise ConfigError(f"rename: {unknown_column(name, known, row_type)}")
        if name not in chosen:
            raise ConfigError(f"rename: column {name} is not among the chosen columns")


def _check_names(names: Sequence[str]) -> None:
    seen = set()
    for name in names:
        if not all(name.split(".")):
            raise ConfigError(f"rename: {name!r} cannot name a column: it is empty or has an empty part")
        if name in seen:
            raise ConfigError(f"rename: duplicate name {name}")
        seen.add(name)
    for name in names:
        parts = name.split(".")
        outer = next((path for end in range(1, len(parts)) if (path := ".".join(parts[:end])) in seen), None)
        if outer is not None:
            raise ConfigError(f"rename: {outer} is a column, so {name} cannot be nested in it")


def unknown_column(name: str, known: Sequence[str], row_type: RowType) -> str:
    """Return the message for a column that does not exist; it lists those that do."""
    return f"unknown column {name}{did_you_mean(name, known)}; {row_type.name} has {', '.join(known)}"
