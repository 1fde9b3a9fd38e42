"""The contract suite itself: of each sink that breaks the contract in one way it says so, and of a sound one nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.contract import bad_sinks
from tests.contract.bad_sinks import Sound

ROOT = Path(__file__).parents[2]
NOTICED_BY = {
    "Loses": "test_every_row_arrives_with_its_values",
    "LosesParts": "test_every_row_arrives_with_its_values",
    "Doubles": "test_written_twice_is_once",
    "DoublesInTurn": "test_a_restart_between_write_and_commit_is_once",
    "Stale": "test_another_process_takes_over_a_released_shard",
    "ByContent": "test_rows_are_told_apart_by_their_position_alone",
    "WithoutGeneration": "test_rows_are_told_apart_by_their_position_alone",
    "Reorders": "test_rows_of_a_source_stay_in_order",
    "TooEarly": "test_what_a_write_has_returned_for_survives_a_kill",
    "OneBehind": "test_what_a_write_has_returned_for_survives_a_kill",
    "Forgets": "test_refused_rows_are_named_and_all_others_written",
    "NamesOnce": "test_refused_rows_are_named_and_all_others_written",
    "NamesOthers": "test_refused_rows_are_named_and_all_others_written",
    "GivesUp": "test_an_outage_is_a_retry_and_loses_nothing",
    "Miscounts": "test_written_twice_is_once",
    "Boasts": "test_a_sink_promises_what_its_kind_says",
    "DropsWeights": "test_a_sample_arrives_with_its_weight",
    "Mangles": "test_every_row_arrives_with_its_values",
    "ClosesOnce": "test_close_is_idempotent",
}


def test_the_suite_notices_every_breach_of_the_contract(tmp_path: Path) -> None:
    """Each bad sink fails the test of what it breaks; one that differs from it by nothing else passes them all."""
    kinds = {sink.__name__ for sink in vars(bad_sinks).values() if isinstance(sink, type) and issubclass(sink, Sound)}
    assert kinds == {"Sound", *NOTICED_BY}
    _install(tmp_path, sorted(kinds))
    failed = _failures(tmp_path)
    assert failed.get("Sound", set()) == set()
    assert {kind: test for kind, test in NOTICED_BY.items() if test not in failed.get(kind, set())} == {}


def _install(where: Path, kinds: list[str]) -> None:
    meta = where / "bad_sinks-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-sinks\nVersion: 1.0\n")
    sinks = "".join(f"bad_{kind} = {bad_sinks.__name__}:{kind}.KIND\n" for kind in kinds)
    harnesses = "".join(f"bad_{kind} = {bad_sinks.__name__}\n" for kind in kinds)
    (meta / "entry_points.txt").write_text(f"[blobtide.sinks]\n{sinks}[blobtide.harnesses]\n{harnesses}")


def _failures(where: Path) -> dict[str, set[str]]:
    """Run the suite on the sound sink, and of each bad one the test that must notice; return the failed tests of each."""
    chosen = " or ".join(["bad_Sound", *(f"({test} and bad_{kind})" for kind, test in NOTICED_BY.items())])
    suite = ("-p", "no:cacheprovider", "-p", "no:xdist", "tests/contract/test_sinks.py", "-k", chosen)
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=no", *suite]
    environ = os.environ | {"PYTHONPATH": str(where)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, set[str]] = {}
    for test, kind in re.findall(r"(?:FAILED|ERROR) tests/contract/test_sinks\.py::(\w+)\[.*?bad_(\w+)-flows", done.stdout):
        found.setdefault(kind, set()).add(test)
    return found
