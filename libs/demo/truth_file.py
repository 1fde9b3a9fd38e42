"""Write the truth of commits to a Parquet or NDJSON file, a few hundred thousand rows at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from libs.common.errors import ConfigError
from libs.common.rows.formats.json import json_lines
from libs.demo.truth import TRUTH_SCHEMA, RowRange, table_of

_ROWS_AT_ONCE: Final = 200_000
_NDJSON: Final = (".ndjson", ".jsonl", ".json")


class TruthFile:
    """A truth file. A Parquet file is readable only once it is closed. Use as a context manager.

    Raises:
        ConfigError: on opening, if the suffix belongs to neither format or the file cannot be written.
    """

    def __init__(self, path: Path, schema: pa.Schema = TRUTH_SCHEMA) -> None:
        if path.suffix not in {".parquet", *_NDJSON}:
            raise ConfigError(f"--truth {path}: name it .parquet or .ndjson")
        self._path = path
        self._schema = schema
        self._waiting: list[RowRange] = []
        self._count = 0
        self._file: Any = None
        self._parquet: Any = None

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("wb")
        except OSError as error:
            raise ConfigError(f"--truth {self._path}: cannot write it: {error.strerror}") from error
        if self._path.suffix == ".parquet":
            self._parquet = pq.ParquetWriter(self._file, self._schema, compression="zstd")
        return self

    def add(self, rows: RowRange) -> None:
        """Add rows. Not thread-safe."""
        self._waiting.append(rows)
        self._count += len(rows)
        if self._count >= _ROWS_AT_ONCE:
            self._flush()

    def __exit__(self, *_: object) -> None:
        try:
            self._flush()
            if self._parquet is not None:
                self._parquet.close()
        finally:
            self._file.close()

    def _flush(self) -> None:
        table = table_of(self._waiting, self._schema)
        self._waiting, self._count = [], 0
        if self._parquet is not None:
            self._parquet.write_table(table)
        else:
            self._file.write(json_lines(table))
