"""Adding a kind touches nothing that is there: a toy in a package of its own is found, built and checked like ours.

It is laid out in a temporary folder as a distribution would be installed, and brings its harness.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

KIND = """
from services.sinks.frame.kind import Kind, Promise

KIND = Kind("rows in a database", "toy_sink.sink:ToySink", "toy_sink.sink:ToySettings", (Promise.EFFECTIVELY_ONCE,))
"""
SINK = """
import json, sqlite3
from pathlib import Path

from libs.common.errors import Retry
from libs.common.rows.formats.encoders import RowFormat, encoder_for
from libs.common.rows.identity import Identities
from services.sinks.frame.contract import Outcome, Sink
from services.sinks.frame.kind import Promise
from services.sinks.frame.settings import SinkSettings


class ToySettings(SinkSettings):
    path: Path


class ToySink(Sink):
    promise = Promise.EFFECTIVELY_ONCE

    def __init__(self, settings, row_type):
        self.path, self.encoder = settings.path, encoder_for(RowFormat.JSON, row_type, settings.shape(row_type))

    def write(self, parts):
        database = sqlite3.connect(self.path)
        try:
            with database:
                database.execute("CREATE TABLE IF NOT EXISTS row (id TEXT PRIMARY KEY, document BLOB)")
                before = database.total_changes
                for part in parts:
                    ids = Identities.of(part.rows, part.row_type.position).document_ids().to_pylist()
                    pairs = zip(ids, self.encoder.encode(part.rows), strict=True)
                    database.executemany("INSERT OR IGNORE INTO row VALUES (?, ?)", pairs)
                written = database.total_changes - before
        except sqlite3.OperationalError as error:
            raise Retry(str(error)) from error
        finally:
            database.close()
        return Outcome(written, sum(part.rows.num_rows for part in parts) - written)
"""
HARNESS = """
import json, sqlite3

from tests.contract.harness import LocalDiskHarness
from tests.row_samples import document, position_of


class ToyHarness(LocalDiskHarness):
    def options(self):
        return {"path": str(self.directory)}

    def read(self):
        with sqlite3.connect(self.directory) as database:
            documents = [json.loads(one) for (one,) in database.execute("SELECT document FROM row")]
        return {position_of(self.case.row_type, one): one for one in documents}

    def expected(self, rows):
        return {position_of(self.case.row_type, row): document(self.case.row_type, row) for row in rows}


def harness(request, tmp_path, case):
    return ToyHarness(case, tmp_path / "toy.db")
"""
FILES = {
    "toy_sink/__init__.py": KIND,
    "toy_sink/sink.py": SINK,
    "toy_sink-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: toy-sink\nVersion: 1.0\n",
    "toy_sink-1.0.dist-info/entry_points.txt": (
        "[blobtide.sinks]\ntoy = toy_sink:KIND\n[blobtide.harnesses]\ntoy = toy_sink.harness\n"
    ),
    "toy_sink/harness.py": HARNESS,
}


def test_a_kind_of_another_distribution_passes_the_suite_by_being_there(tmp_path: Path) -> None:
    """A case for each row type is made of it, and every test of the suite that applies passes."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    where = os.environ | {"PYTHONPATH": str(tmp_path)}
    suite = ("-p", "no:cacheprovider", "tests/contract/test_sinks.py", "-k", "toy or every_sink")
    command = [sys.executable, "-m", "pytest", "-v", *suite]
    done = subprocess.run(command, cwd=ROOT, env=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    for case in ("test_every_row_arrives_with_its_values[toy-flows]", "test_written_twice_is_once[toy-dead_letters]"):
        assert f"{case} PASSED" in done.stdout, done.stdout
