"""The key of each row: a prefix, values of columns, and the row's identity, so that no two rows have the same key.

Values are untrusted: they contribute only letters, digits and ``. _ : -``, so no row can add a level or leave the prefix.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from libs.common.errors import ConfigError
from libs.common.rows.identity import Identities
from libs.common.rows.row_text import CodedTexts, RowText, TextColumn
from libs.common.rows.row_type import RowType
from services.sinks.frame.template import Template

_POSITION: Final = "position"
_UNSAFE: Final = r"[^A-Za-z0-9._:-]"
_NOTHING: Final = "_"
_LONGEST: Final = 100  # characters of a value


class KeyMaker:
    """Makes keys from rows of one type."""

    def __init__(self, prefix: str, template: str, row_type: RowType) -> None:
        """Parse the template. Raises `ConfigError`."""
        self._row_type = row_type
        self._template = Template.parse("key", template, row_type, also=(_POSITION,))
        self._prefix = prefix
        if _POSITION not in self._template.columns:
            raise ConfigError("key: {position} is required, because rows with the same values would have the same key")

    @property
    def example(self) -> str:
        """A key that no row has."""
        return f"{self._prefix}{self._template.texts[0]}probe"

    def keys(self, rows: pa.Table) -> list[bytes]:
        """Return the key of each row."""
        columns: list[TextColumn] = [self._prefix]
        for text, name in zip(self._template.texts, self._template.columns, strict=False):
            columns += [text, *(self._identity(rows) if name == _POSITION else [_text(rows.column(name))])]
        slices = RowText([*columns, self._template.texts[-1]], rows.num_rows).slices()
        return [key for some in slices for key in some.cast(pa.binary()).to_pylist()]

    def _identity(self, rows: pa.Table) -> list[TextColumn]:
        """Return the identity of each row; if only the newest row of each key counts, that of its key."""
        if not self._row_type.keys:
            return Identities.of(rows, self._row_type.position).text_columns()
        values = zip(*(rows.column(name).to_pylist() for name in self._row_type.keys), strict=True)
        return [pa.array([xxhash.xxh128_hexdigest(repr(key).encode()) for key in values], pa.string())]


def _text(column: pa.ChunkedArray) -> TextColumn:
    """Return a column as text that is safe in a key."""
    values = column.unify_dictionaries().combine_chunks()
    if not pa.types.is_dictionary(values.type):
        return _safe(values)
    words = [*_safe(values.dictionary).to_pylist(), _NOTHING]
    codes = values.indices.fill_null(len(words) - 1).to_numpy().astype(np.uint32)
    return CodedTexts(words, codes)


def _safe(values: pa.Array) -> pa.Array:
    text = values.cast(pa.string())
    if pa.types.is_timestamp(values.type):
        text = pc.replace_substring(text, " ", "T")
    plain = pc.utf8_slice_codeunits(pc.replace_substring_regex(text, _UNSAFE, _NOTHING), 0, _LONGEST)
    return pc.fill_null(pc.if_else(pc.equal(plain, ""), _NOTHING, plain), _NOTHING)
