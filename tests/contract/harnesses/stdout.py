"""The stdout sink's destination: a file that standard output goes to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

from services.sinks.frame.contract import Sink
from services.sinks.kinds.stdout.sink import StdoutSettings, StdoutSink
from tests.contract.harness import Benchmark, Case, Content, Harness, LocalDiskHarness, Row
from tests.contract.peers import Options, Peer
from tests.row_samples import document, position_of


class StdoutHarness(LocalDiskHarness):
    """JSON lines, appended."""

    @property
    def is_ordered(self) -> bool:
        """Rows of a source stay in order."""
        return True

    def __init__(self, case: Case, directory: Path, request: pytest.FixtureRequest) -> None:
        super().__init__(case, directory)
        self.request = request

    def options(self) -> dict[str, Any]:
        """Print JSON, which carries the identity."""
        return {"format": "json"}

    def sink(self) -> Sink:
        """Build a sink whose standard output is the file."""
        out = self.directory.open("ab", buffering=0)
        self.request.addfinalizer(out.close)
        return StdoutSink(StdoutSettings.model_validate(self.all_options()), self.case.row_type, out)

    def standard_output(self) -> AbstractContextManager[Any]:
        """Append to the file."""
        return self.directory.open("ab")

    def read(self) -> Content:
        """Read all lines; a line that comes again must be the same."""
        content: Content = {}
        for line in self.directory.read_text().splitlines():
            values = json.loads(line)
            assert content.setdefault(position_of(self.case.row_type, values), values) == values
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, without nulls and with times as text."""
        return {position_of(self.case.row_type, row): document(self.case.row_type, row) for row in rows}


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give an empty file."""
    return StdoutHarness(case, tmp_path / "lines", request)


def _print(_: Options, rows: Iterable[dict[str, Any]]) -> int:
    with TemporaryFile("w", encoding="utf-8") as out:
        written = 0
        for row in rows:
            print(json.dumps(row), file=out)
            written += 1
        return written


BENCHMARK = Benchmark(
    "lines in a file, offsets committed",
    own=None,
    options=lambda _: {"format": "json"},
    times=5,
    peers=(Peer("print, json.dumps", _print),),
)
