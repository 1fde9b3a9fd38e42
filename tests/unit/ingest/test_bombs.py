"""Decompression bombs as blobs: little memory, a clear reason, and other blobs are read meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bombs import BOMBS, GOOD_LINES

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_little_memory_and_no_other_blob(name: str) -> None:
    """256 MB are enough; what is not read is in a dead letter that says why; and a good blob is read completely."""
    bomb = BOMBS[name]
    done = subprocess.run(
        (sys.executable, "-m", "tests.bombs", name), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["good"] == {"lines": GOOD_LINES, "letters": [], "status": "complete"}
    letters = found["bomb"]["letters"]
    assert [code for code, _ in letters] == [code for code, _ in bomb.letters]
    assert all(part in reason for (_, reason), (_, part) in zip(letters, bomb.letters, strict=True)), letters
    assert found["bomb"]["lines"] == bomb.lines or (bomb.lines is None and found["bomb"]["lines"] > 0)
