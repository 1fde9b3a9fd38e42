"""The file sink's destination: a directory of Parquet or NDJSON files, flat or in folders by time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.sinks.kinds.file.sink import FileSettings, FileSink
from tests.contract.harness import Benchmark, Case, Content, Harness, LocalDiskHarness, Row
from tests.contract.peers import Options, Peer, Takes, some_at_a_time
from tests.row_samples import by_position, document, position_of

MODES = ("parquet", "ndjson", "hive")
_PEER_ROWS = 50_000


class FileHarness(LocalDiskHarness):
    """Small files, so that a few rows make several."""

    @property
    def is_ordered(self) -> bool:
        """Rows of a source are in order over files by their number, and in layout hive only within a folder."""
        return self.case.mode != "hive"

    def options(self) -> dict[str, Any]:
        """Complete a file at ten rows."""
        usual = {"directory": str(self.directory), "rotate_rows": 10}
        return usual | ({"layout": "hive"} if self.case.mode == "hive" else {"format": self.case.mode or "parquet"})

    def recover(self) -> None:
        """Open the directory an hour later, so that waiting rows are due."""
        settings = FileSettings.model_validate(self.all_options())
        later = FileSink(settings, self.case.row_type, clock=lambda: time.time() + 3_600)
        later.open()
        later.close()

    def read(self) -> Content:
        """Read all files a reader sees."""
        pattern = "day=*/hour=*/*" if self.case.mode == "hive" else "*"
        files = sorted(file for file in self.directory.glob(pattern) if file.name != ".blobtide")
        assert all(file.name.startswith(f"{self.case.row_type.name}-p00") for file in files)
        assert {file.suffix for file in files} <= {f".{self.options().get('format', 'parquet')}"}
        if self.case.mode == "ndjson":
            return self._by_position([json.loads(line) for file in files for line in file.read_text().splitlines()])
        tables = [pq.ParquetFile(file).read() for file in files]  # without columns made of folders
        return by_position(self.case.row_type, pa.concat_tables(tables)) if tables else {}

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row."""
        if self.case.mode == "ndjson":
            return self._by_position([document(self.case.row_type, row) for row in rows])
        return by_position(self.case.row_type, rows)

    def _by_position(self, documents: Sequence[Row]) -> Content:
        content = {position_of(self.case.row_type, one): one for one in documents}
        assert len(content) == len(documents)
        return content


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give an empty directory."""
    return FileHarness(case, tmp_path / "files")


def _write(options: Options, rows: Iterable[dict[str, Any]]) -> int:
    directory = Path(options["directory"])
    directory.mkdir(parents=True, exist_ok=True)
    written = 0
    for some in some_at_a_time(rows, _PEER_ROWS):
        pq.write_table(pa.Table.from_pylist(some), directory / f"{uuid4().hex}.parquet")
        written += len(some)
    return written


def _count(_: object, options: Options) -> int:
    return sum(pq.read_metadata(file).num_rows for file in Path(options["directory"]).glob("*.parquet"))


BENCHMARK = Benchmark(
    "rows in files, the last ones in spools, offsets committed",
    own="directory",
    is_directory=True,
    times=5,
    options=lambda _: {"rotate_rows": _PEER_ROWS},  # so that files are completed while the clock runs
    count=_count,
    peers=(Peer("write_table, from_pylist", _write, Takes.VALUES, ends="rows in files"),),
)
