"""The file sink in layout hive, killed at every step of a rotation that makes several files."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from libs.common.process.crash import CRASH_VARIABLE
from services.sinks.frame.registry import configured_sink
from tests.contract.harness import CRASH_POINTS
from tests.flows import by_identity
from tests.hive import folders, read_laid_out
from tests.hive_writer import CONTENT, parts

ROOT = Path(__file__).parents[2]
HOURS = 4
# A rotation takes two batches of twelve rows, which hold four hours: the first, a middle and the last file of one, and
# the second file of the next.
ONCE_A_ROTATION = [(point, times) for point in CRASH_POINTS for times in (1, 2)]
ONCE_A_FILE = [(point, times) for point in ("sink.part-synced", "sink.part-renamed") for times in (3, HOURS, HOURS + 2)]


def options(directory: Path) -> dict[str, object]:
    """Complete files at twenty rows."""
    return {"directory": str(directory), "layout": "hive", "rotate_rows": 20}


def run_writer(directory: Path, point: str | None = None) -> int:
    """Write all rows in a process of its own; return how it ended."""
    command = [sys.executable, "-m", "tests.hive_writer", json.dumps(options(directory))]
    environment = {key: value for key, value in os.environ.items() if key != CRASH_VARIABLE}
    if point:
        environment[CRASH_VARIABLE] = point
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def finish(directory: Path, size: int) -> None:
    """Write all rows once more, in batches of another size, and stop."""
    sink = configured_sink({"file": options(directory)}, "file").sink
    sink.open()
    for at in range(0, len(CONTENT), size):
        sink.write(parts(CONTENT[at : at + size]))
    sink.close()


@pytest.mark.parametrize(("point", "times"), [*ONCE_A_ROTATION, *ONCE_A_FILE])
def test_a_kill_at_any_step_leaves_every_row_once_in_its_folder(point: str, times: int, tmp_path: Path) -> None:
    """SIGKILL before, between and after the files of a rotation, then the same rows in other batches, leaves each row once."""
    assert run_writer(tmp_path, f"{point}@{times}") == -signal.SIGKILL, f"{point} is not reached {times} times"
    read_laid_out(tmp_path)  # what a reader sees meanwhile is whole and where it belongs
    finish(tmp_path, 8)
    assert read_laid_out(tmp_path) == by_identity(CONTENT)
    assert len(folders(tmp_path)) == HOURS


@pytest.mark.parametrize("seed", range(3))
def test_kills_while_recovering_from_kills_leave_every_row_once(seed: int, tmp_path: Path) -> None:
    """Processes that die one after the other, some while they recover from the death before, leave each row once."""
    chance, kills = random.Random(seed), 0
    for _ in range(6):
        point = chance.choice(
            ("sink.part-recorded", "sink.part-renamed", "sink.part-renamed", "sink.part-synced", "sink.rolled")
        )
        kills += run_writer(tmp_path, f"{point}@{chance.randint(1, 3)}") == -signal.SIGKILL
        read_laid_out(tmp_path)
    finish(tmp_path, 10)
    assert kills > 1
    assert read_laid_out(tmp_path) == by_identity(CONTENT)
