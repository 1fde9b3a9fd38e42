"""Rows as lines for people. Flows are aligned: time, decision, source and destination, traffic, rule.

Lines are built column by column. Logs are untrusted and terminals obey control characters, so these are shown as escapes.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.formats.json import escape_json, text_bytes
from libs.common.rows.protocol_names import protocol_names
from libs.common.security.visible import OBEYED_RE2, visible_line


class FlowLines:
    """Makes aligned lines. Columns widen for longer values and never narrow, so that lines stay aligned across batches."""

    def __init__(self) -> None:
        self._widths: dict[str, int] = {}

    def text(self, flows: pa.Table) -> bytes:
        """Return one line for each row of `flows`."""
        fields = {
            "time": pc.replace_substring(flows.column("time").cast(pa.string()), " ", "T"),
            "direction": _words(flows, "direction"),
            "action": _words(flows, "action"),
            "state": _words(flows, "state"),
            "protocol": protocol_names(flows.column("protocol")),
            "source": endpoints(flows, "src"),
            "arrow": pa.repeat("->", flows.num_rows),
            "target": endpoints(flows, "dst"),
            "sent": _traffic(flows, "sent", "sent"),
            "received": _traffic(flows, "received", "back"),
        }
        padded = [self._padded(name, pc.fill_null(column, "-")) for name, column in fields.items()]
        lines = pc.binary_join_element_wise(*padded, _words(flows, "rule"), " ")
        ended = pc.binary_join_element_wise(pc.utf8_rtrim_whitespace(lines), "", "\n")
        return b"".join(text_bytes(chunk).data for chunk in ended.chunks)

    def _padded(self, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        width = max(self._widths.get(name, 0), pc.max(pc.utf8_length(column)).as_py() or 0)
        self._widths[name] = width
        return pc.utf8_rpad(column, width)


def _words(flows: pa.Table, name: str) -> pa.Array:
    """Return a dictionary column as one-line text."""
    return pc.fill_null(visible_words(flows.column(name).combine_chunks()), "-")


def visible_words(words: pa.DictionaryArray) -> pa.Array:
    """Return the words of a dictionary column as text that can be printed on one line."""
    dictionary = words.dictionary
    if pc.any(pc.match_substring_regex(dictionary, OBEYED_RE2)).as_py():
        dictionary = pa.array([None if word is None else visible_line(word) for word in dictionary.to_pylist()], pa.string())
    return dictionary.take(words.indices)


def endpoints(flows: pa.Table, side: str) -> pa.ChunkedArray:
    """Return address and port of one side (``src`` or ``dst``), as in ``10.0.0.4:443`` or ``[2001:db8::1]:443``."""
    address = flows.column(f"{side}_ip")
    bracketed = pc.if_else(pc.match_substring(address, ":"), pc.binary_join_element_wise("[", address, "]", ""), address)
    return pc.binary_join_element_wise(bracketed, flows.column(f"{side}_port").cast(pa.string()), ":")


def _traffic(flows: pa.Table, way: str, word: str) -> pa.ChunkedArray:
    packets, octets = (pc.fill_null(flows.column(f"{unit}_{way}").cast(pa.string()), "?") for unit in ("packets", "bytes"))
    text = pc.binary_join_element_wise(f"{word} ", packets, "p/", octets, "B", "")
    absent = pc.and_(pc.is_null(flows.column(f"packets_{way}")), pc.is_null(flows.column(f"bytes_{way}")))
    return pc.if_else(absent, pa.scalar(None, pa.string()), text)


class RowLines:
    """Makes lines from rows of any type: non-null columns as ``name=value``, the first one without its name."""

    def text(self, rows: pa.Table) -> bytes:
        """Return one line for each row of `rows`."""
        first, *others = rows.column_names
        fields = [_shown(rows.column(first))]
        fields += [pc.binary_join_element_wise(f"{name}=", _shown(rows.column(name)), "") for name in others]
        lines = pc.binary_join_element_wise(*fields, " ", null_handling="skip")
        ended = pc.binary_join_element_wise(lines, "", "\n")
        return b"".join(text_bytes(chunk).data for chunk in ended.chunks)


def _shown(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return values as single-line text; values that contain spaces or quotes are quoted."""
    if pa.types.is_timestamp(column.type):
        return pc.replace_substring(column.cast(pa.string()), " ", "T")
    if pa.types.is_dictionary(column.type):
        return pa.chunked_array([_shown_array(chunk.dictionary).take(chunk.indices) for chunk in column.chunks], pa.string())
    if not pa.types.is_string(column.type):
        return column.cast(pa.string())
    return pa.chunked_array([_shown_array(chunk) for chunk in column.chunks], pa.string())


def _shown_array(texts: pa.Array) -> pa.Array:
    quoted = pc.binary_join_element_wise('"', escape_json(texts), '"', "")
    needs_quotes = pc.fill_null(pc.match_substring_regex(texts, r'^$|[\s"=]'), fill_value=False)
    texts = pc.if_else(needs_quotes, quoted, texts)
    if not pc.any(pc.match_substring_regex(texts, OBEYED_RE2), min_count=0).as_py():
        return texts
    return pa.array([None if text is None else visible_line(text) for text in texts.to_pylist()], pa.string())
