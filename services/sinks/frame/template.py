"""Names made from columns: ``flows/{action}`` becomes a topic or a key for each row, column by column.

Text in rows is untrusted. In topic names, values contribute only letters, digits, dots, hyphens and underscores; anything else
becomes an underscore, so that no row can add a level or a wildcard. The number of different topics is limited.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Self

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.errors import ConfigError
from libs.common.rows.row_type import RowType
from libs.common.rows.shape import unknown_column

UNSAFE: Final = r"[^A-Za-z0-9._-]"
"""Of a value, where dots mean nothing."""

_NOTHING: Final = "_"  # in place of a value that is null or empty
_LONGEST: Final = 100  # characters of a value in a topic


@dataclass(frozen=True, slots=True)
class Template:
    """Fixed texts alternating with columns: ``texts[0] + columns[0] + texts[1] + ...``; there is one more text than columns."""

    texts: tuple[str, ...]
    columns: tuple[str, ...]

    @classmethod
    def parse(cls, setting: str, text: str, row_type: RowType, also: Sequence[str] = ()) -> Self:
        """Parse the value of a setting. ``{{`` and ``}}`` stand for literal braces; `also` are names that are no columns.

        Raises:
            ConfigError: if it names a column that the row type lacks, or contains anything but text and columns.
        """
        texts, columns = [""], []
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            raise ConfigError(f"{setting}: {error}; write a column as {{name}}, and a brace as {{{{ or }}}}") from error
        for literal, name, form, conversion in parsed:
            texts[-1] += literal
            if name is None:
                continue
            if form or conversion:
                raise ConfigError(f"{setting}: only column names are allowed in braces, such as {{{name}}}")
            if name not in row_type.names and name not in also:
                raise ConfigError(f"{setting}: {unknown_column(name, (*row_type.names, *also), row_type)}")
            columns.append(name)
            texts.append("")
        return cls(tuple(texts), tuple(columns))

    def example(self) -> str:
        """Return the text with the names of the columns in place of their values."""
        return self._joined(self.columns)

    def keys(self, rows: pa.Table) -> list[bytes | None]:
        """Return the text of each row as bytes, with unchanged values; None if all columns are null."""
        if not self.columns:
            return [self.texts[0].encode()] * rows.num_rows
        values = [_text(rows.column(name)) for name in self.columns]
        text = pc.binary_join_element_wise(*self._between([pc.fill_null(value, "") for value in values]), "")
        absent = [pc.is_null(value) for value in values]
        nothing = absent[0]
        for more in absent[1:]:
            nothing = pc.and_(nothing, more)
        keys: list[bytes | None] = pc.if_else(nothing, pa.scalar(None, pa.string()), text).cast(pa.binary()).to_pylist()
        return keys

    def topics(self, rows: pa.Table, unsafe: str = UNSAFE) -> pa.DictionaryArray:
        """Return the text of each row; in values, what the pattern `unsafe` matches becomes an underscore."""
        if not self.columns:
            return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows.num_rows), pa.array([self.texts[0]]))
        harmless = partial(_harmless, unsafe)
        values = [pc.fill_null(_by_word(rows.column(name), harmless), _NOTHING) for name in self.columns]
        text = pc.binary_join_element_wise(*self._between(values), "")
        return text.combine_chunks().dictionary_encode()

    def _between(self, values: Sequence[pa.ChunkedArray]) -> list[pa.ChunkedArray | str]:
        """Return texts and values alternately."""
        parts: list[pa.ChunkedArray | str] = []
        for text, value in zip(self.texts, values, strict=False):
            parts += [text, value]
        return [*parts, self.texts[-1]]

    def _joined(self, values: Sequence[str]) -> str:
        return "".join(text + value for text, value in zip(self.texts, (*values, ""), strict=True))


class Topics:
    """Which topics rows may be sent to: a limited number of acceptable ones."""

    def __init__(self, template: Template, most: int, objection: Callable[[str], str | None]) -> None:
        self._template = template
        self._most = most
        self._objection = objection
        self._judged: dict[str, str | None] = {}  # why a name cannot be used; None: it can

    def of(self, rows: pa.Table) -> tuple[list[str], list[str | None]]:
        """Return the topic of each row, and why it cannot be used (None if it can)."""
        words = self._template.topics(rows)
        names = words.dictionary.to_pylist()
        objections = [self._judge(name) for name in names]
        codes = words.indices.to_pylist()
        return [names[code] for code in codes], [objections[code] for code in codes]

    def _judge(self, name: str) -> str | None:
        if name not in self._judged:
            if len(self._judged) >= self._most:
                return f"its topic would exceed max_topics ({self._most})"
            self._judged[name] = self._objection(name)
        return self._judged[name]


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return _by_word(column, lambda words: words)


def _by_word(column: pa.ChunkedArray, change: Callable[[pa.Array], pa.Array]) -> pa.ChunkedArray:
    """Return a column as text, changed by `change`; in a dictionary column, each word is changed only once."""
    chunks = [
        change(chunk.dictionary.cast(pa.string())).take(chunk.indices)
        if pa.types.is_dictionary(chunk.type)
        else change(chunk.cast(pa.string()))
        for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, pa.string())


def _harmless(unsafe: str, words: pa.Array) -> pa.Array:
    plain = pc.utf8_slice_codeunits(pc.replace_substring_regex(words, unsafe, _NOTHING), 0, _LONGEST)
    return pc.if_else(pc.equal(plain, ""), _NOTHING, plain)
