"""Memory that services do without."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
from libs.common.process.memory import hide_pandas
hide_pandas()
hide_pandas()
import json, pyarrow as pa
assert pa.array([1, 2]).to_pylist() == [1, 2] and pa.array([{"a": 1}]).to_pylist() == [{"a": 1}]
assert "pandas" not in sys.modules, "pyarrow has imported it"
"""


RELEASED = """
from pathlib import Path
from libs.common.process.memory import give_back_code
from libs.common.rows.select import Selection
from libs.common.rows.types.flows import FLOWS

def mapped():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))

selection = Selection.of(FLOWS, "dst_port = 443")
before = mapped()
give_back_code("_duckdb")
print(before - mapped())
assert selection.select(FLOWS.example_table).rows.num_rows == 1
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages are given back on Linux only")
def test_code_that_only_the_start_needed_is_given_back() -> None:
    """Megabytes of a library's code leave memory once a condition is prepared, and the condition works as before."""
    shown = subprocess.run([sys.executable, "-c", RELEASED], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert int(shown.stdout) > 8 * 1024


def test_services_do_not_load_pandas() -> None:
    """Where pandas is installed, pyarrow would import it at the first conversion; hidden, it does without."""
    pytest.importorskip("pandas")
    shown = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    without = subprocess.run(
        [sys.executable, "-c", CODE.replace("\nhide_pandas()", "")], capture_output=True, text=True, check=False
    )
    assert "pyarrow has imported it" in without.stderr
