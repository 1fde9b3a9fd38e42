"""The content of a request: rows as lines of JSON, as a JSON array, or as CSV. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from libs.common.errors import ConfigError
from libs.common.rows.formats.encoders import CsvLines, RowFormat, documents_for
from libs.common.rows.formats.json import text_bytes
from libs.common.rows.row_text import RowText
from libs.common.rows.row_type import RowType
from libs.common.rows.shape import Shape


class BodyLayout(StrEnum):
    """How the JSON documents of rows make one body."""

    LINES = "lines"
    ARRAY = "array"


@dataclass(frozen=True, slots=True)
class BodyContent:
    """Makes bodies from rows.

    Attributes:
        media_type: of bodies.
        slices: makes one text per row from rows of a part, a bounded number at a time.
        begin, end: around the texts of a body.
        skipped: how many bytes of the first text are left out.
    """

    media_type: str
    slices: Callable[[pa.Table], Iterator[pa.Array]]
    begin: bytes = b""
    end: bytes = b""
    skipped: int = 0

    def body(self, texts: pa.ChunkedArray) -> list[bytes | memoryview]:
        """Return the body of some rows, of which there is at least one, as buffers."""
        first, *others = [text_bytes(chunk).data for chunk in texts.chunks]
        return [self.begin, first[self.skipped :], *others, self.end]


def content_for(form: RowFormat, layout: BodyLayout, row_type: RowType, shape: Shape) -> BodyContent:
    """Return how bodies are made.

    Raises:
        ConfigError: if the format does not go with the layout, the row type or the shape.
    """
    if form is RowFormat.CSV:
        if layout is BodyLayout.ARRAY:
            raise ConfigError("layout: csv has lines, but no array")
        lines = CsvLines(row_type, shape)
        return BodyContent("text/csv; charset=utf-8; header=present", lines.slices, begin=lines.header)
    if form not in {RowFormat.JSON, RowFormat.ECS, RowFormat.OTEL}:
        raise ConfigError(f"format: bodies have the formats json, ecs, otel or csv, not {form.value}")
    documents = documents_for(form, row_type, shape)
    if layout is BodyLayout.LINES:
        return BodyContent(
            "application/x-ndjson", lambda rows: RowText([*documents.text_columns(rows), "\n"], len(rows)).slices()
        )
    return BodyContent(
        "application/json",
        lambda rows: RowText([",", *documents.text_columns(rows)], len(rows)).slices(),
        begin=b"[",
        end=b"]",
        skipped=1,
    )
