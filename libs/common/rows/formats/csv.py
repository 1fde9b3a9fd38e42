"""Tables as CSV text (RFC 4180 quoting, UTF-8, lines end in LF), built column by column.

A null is an empty field and an empty string is ``""``, so the two can be told apart. Times are ISO 8601 with ``Z``, with three
digits for milliseconds and, for nanoseconds, seven or nine as in JSON. Values are quoted only if they need it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.column_values import integers

CHUNK_ROWS = 16_384
_NEEDS_QUOTES = r'^$|[",\r\n]'
# A spreadsheet treats a cell that starts like this as a formula.
_FORMULA_START = r"^[=+\-@\t\r]"


def csv_header(schema: pa.Schema) -> bytes:
    """Return the header line of tables of `schema`."""
    names = _quoted(pa.array(schema.names, pa.string()))
    line: str = ",".join(names.to_pylist())
    return line.encode() + b"\n"


def csv_lines(table: pa.Table, *, header: bool = True, formula_safe: bool = False) -> bytes:
    """Return `table` as CSV lines, after a header line if `header`.

    With `formula_safe`, text that a spreadsheet would run as a formula (first character ``= + - @``, tab or carriage return)
    gets an apostrophe in front.

    Raises:
        TypeError: if a column is neither text, number, boolean nor timestamp.
    """
    lines = [csv_header(table.schema)] if header else []
    lines += [_batch_lines(batch, formula_safe) for batch in table.to_batches(max_chunksize=CHUNK_ROWS)]
    return b"".join(lines)


def csv_rows(table: pa.Table, *, formula_safe: bool = False) -> list[bytes]:
    """Return each row as CSV without a line ending, for destinations with one row per message. Raises as `csv_lines` does."""
    return [row for rows in csv_slices(table, formula_safe=formula_safe) for row in rows.cast(pa.binary()).to_pylist()]


def csv_slices(table: pa.Table, *, formula_safe: bool = False) -> Iterator[pa.Array]:
    """Yield each row as CSV without a line ending, in arrays of a bounded number of rows. Raises as `csv_lines` does."""
    for batch in table.to_batches(max_chunksize=CHUNK_ROWS):
        yield _batch_rows(batch, formula_safe)


def _batch_lines(batch: pa.RecordBatch, formula_safe: bool) -> bytes:  # noqa: FBT001
    if not batch.num_rows:
        return b""
    # Joining each row with "" ends it with a line feed; all text then lies in one buffer.
    ended = pc.binary_join_element_wise(_batch_rows(batch, formula_safe), "", "\n")
    text: bytes = ended.buffers()[2].to_pybytes()
    return text


def _batch_rows(batch: pa.RecordBatch, formula_safe: bool) -> pa.Array:  # noqa: FBT001
    fields = [_text(column, formula_safe) for column in batch.columns]
    return pc.binary_join_element_wise(*fields, ",", null_handling="replace", null_replacement="")


def _text(column: pa.Array, formula_safe: bool) -> pa.Array:  # noqa: FBT001
    if pa.types.is_dictionary(column.type):
        return _text(column.dictionary, formula_safe).take(column.indices)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        text = _defused(column) if formula_safe else column
        return _quoted(text)
    if pa.types.is_timestamp(column.type):
        return _iso(column)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type):
        return column.cast(pa.string())
    raise TypeError(f"no CSV representation for a column of type {column.type}")


def _iso(times: pa.Array) -> pa.Array:
    text = pc.replace_substring(times.cast(pa.string()), " ", "T")  # not by place: a year may have more than four digits
    if times.type.unit != "ns":
        return text
    seven = pc.binary_join_element_wise(pc.utf8_slice_codeunits(text, 0, 27), "Z", "")
    finer = integers(times) % 100 != 0
    return pc.if_else(pa.array(finer), text, seven) if finer.any() else seven


def _defused(text: pa.Array) -> pa.Array:
    risky = pc.match_substring_regex(text, _FORMULA_START)
    return _where(risky, pc.binary_join_element_wise("'", text, ""), text)


def _quoted(text: pa.Array) -> pa.Array:
    special = pc.match_substring_regex(text, _NEEDS_QUOTES)
    if not pc.any(special, min_count=0).as_py():
        return text
    escaped = pc.replace_substring(text, '"', '""')
    return _where(special, pc.binary_join_element_wise('"', escaped, '"', ""), text)


def _where(mask: pa.Array, yes: pa.Array, no: pa.Array) -> pa.Array:
    return pc.if_else(pc.fill_null(mask, fill_value=False), yes, no)
