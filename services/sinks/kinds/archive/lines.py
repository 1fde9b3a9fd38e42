"""Files of snapshots: one record a line."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.rows.formats.json import text_bytes

RECORD: Final = "record"
_LINE_BREAKS: Final = "\n\r"  # in JSON only between values, where a space means the same


def write_records(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write the records of `tables` to `path`, replacing any file there, and wait until they are on disk. Raises OSError."""
    with path.open("wb") as file:
        for table in tables:
            for records in table.column(RECORD).chunks:
                file.write(record_lines(records))
        file.flush()
        os.fsync(file.fileno())


def record_lines(records: pa.StringArray) -> memoryview:
    """Return records as lines, byte by byte as they are, but for the line breaks within them."""
    content = text_bytes(records)
    for character in _LINE_BREAKS:
        if (content == ord(character)).any():
            records = pc.replace_substring(records, pattern=character, replacement=" ")
    ended = pc.binary_join_element_wise(records, "", "\n")
    lines: memoryview = text_bytes(ended).data
    return lines
