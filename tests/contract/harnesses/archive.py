"""The archive sink's destination: a directory of zips."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.sinks.kinds.archive.sink import ArchiveSettings, ArchiveSink
from tests.contract.harness import Case, Content, Harness, LocalDiskHarness, Row
from tests.snapshots import archived, as_archived


class ArchiveHarness(LocalDiskHarness):
    """Small files, so that a few rows make several."""

    def options(self) -> dict[str, Any]:
        """Complete files at ten rows."""
        return {"directory": str(self.directory), "rotate_rows": 10}

    def recover(self) -> None:
        """Open the directory an hour later, so that waiting rows are due."""
        later = ArchiveSink(ArchiveSettings.model_validate(self.all_options()), clock=lambda: time.time() + 3_600)
        later.open()
        later.close()

    def read(self) -> Content:
        """Read all records, with how often each is there."""
        return archived(self.directory)

    def expected(self, rows: Sequence[Row]) -> Content:
        """Every record as often as it was taken."""
        return as_archived(rows)


def harness(request: pytest.FixtureRequest, tmp_path: Path, case: Case) -> Harness:
    """Give an empty directory."""
    return ArchiveHarness(case, tmp_path / "archive")
