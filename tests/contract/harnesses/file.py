"""The file sink's destination: a directory of Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.contract.harness import Content, Harness, LocalDiskHarness, Row
from tests.flows import by_identity


class FileHarness(LocalDiskHarness):
    """Small files, so that a few rows make several."""

    kind = "file"

    def options(self) -> dict[str, Any]:
        """Complete a file at ten rows."""
        return {"directory": str(self.directory), "rotate_rows": 10}

    def read(self) -> Content:
        """Read all files a reader sees."""
        files = sorted(self.directory.glob("*"))
        assert all(file.suffix == ".parquet" for file in files if file.name != ".blobtide")
        tables = [pq.read_table(file) for file in files if file.is_file()]
        return by_identity(pa.concat_tables(tables)) if tables else {}

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row."""
        return by_identity(rows)


def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    """Give an empty directory."""
    return FileHarness(tmp_path / "files")
