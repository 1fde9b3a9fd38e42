"""Hostile input costs little memory: every case is read, in a process with a hard limit, by `convert` and as a blob."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile import CASES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", CASES)
def test_hostile_input_is_read_in_little_memory(name: str, tmp_path: Path) -> None:
    """Rows come of what is good around it, the rest is dead letters in a file with a limit, and 512 MB are enough."""
    case = CASES[name]
    done = subprocess.run(
        (sys.executable, "-m", "tests.hostile", name, tmp_path),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows, rows_of_blob = json.loads(done.stdout)
    assert rows >= case.rows
    assert rows_of_blob is None or rows_of_blob >= case.rows
    assert sum(file.stat().st_size for file in tmp_path.glob("errors*")) <= 30_000_000
