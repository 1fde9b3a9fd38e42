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


def test_services_do_not_load_pandas() -> None:
    """Where pandas is installed, pyarrow would import it at the first conversion; hidden, it does without."""
    pytest.importorskip("pandas")
    shown = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    without = subprocess.run(
        [sys.executable, "-c", CODE.replace("\nhide_pandas()", "")], capture_output=True, text=True, check=False
    )
    assert "pyarrow has imported it" in without.stderr
