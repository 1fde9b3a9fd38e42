"""The stdout sink's destination: a file that standard output goes to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from libs.common.rows.types.flows import FLOWS
from services.sinks.frame.contract import Sink
from services.sinks.kinds.stdout.sink import StdoutSettings, StdoutSink
from tests.contract.harness import Content, Harness, LocalDiskHarness, Row
from tests.flows import identity


class StdoutHarness(LocalDiskHarness):
    """JSON lines, appended."""

    kind = "stdout"

    def __init__(self, directory: Path, request: pytest.FixtureRequest) -> None:
        super().__init__(directory)
        self.request = request

    def options(self) -> dict[str, Any]:
        """Print JSON, which carries the identity."""
        return {"format": "json"}

    def sink(self) -> Sink:
        """Build a sink whose standard output is the file."""
        out = self.directory.open("ab", buffering=0)
        self.request.addfinalizer(out.close)
        return StdoutSink(StdoutSettings.model_validate(self.options()), FLOWS, out)

    def read(self) -> Content:
        """Read all lines; a line that comes again must be the same."""
        content: Content = {}
        for line in self.directory.read_text().splitlines():
            values = json.loads(line)
            assert content.setdefault(identity(values), values) == values
        return content

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every row, without nulls and with times as text."""
        return {identity(row): _as_json(row) for row in rows}


def _as_json(row: Row) -> dict[str, Any]:
    times = {"time": _iso(row["time"] * 1_000_000, 3), "record_time": _iso(row["record_time"], 7)}
    return {name: value for name, value in {**row, **times}.items() if value is not None}


def _iso(nanoseconds: int, digits: int) -> str:
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09}"[: 20 + digits] + "Z"


def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    """Give an empty file."""
    return StdoutHarness(tmp_path / "lines", request)
