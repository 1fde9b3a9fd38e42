"""What is nobody else's business is readable by its owner alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.local.cache import Recipe, fetched
from services.cli.up.ports import remember_port
from services.cli.up.supervisor import Program, Supervisor
from services.sinks.frame.registry import configured_sink
from tests.flows import Spot, row
from tests.flows import part as flow_part


@pytest.fixture(autouse=True)
def _open_to_all() -> Iterator[None]:
    """Let files be for everybody, as far as they do not say otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(directory: Path) -> set[tuple[str, str]]:
    """Return the kind and the mode of everything below a directory."""
    return {(("d" if path.is_dir() else "f"), oct(stat.S_IMODE(path.stat().st_mode))) for path in directory.rglob("*")}


@pytest.mark.parametrize("kind", ["file", "summary"])
def test_the_state_of_a_sink_is_its_own(kind: str, tmp_path: Path) -> None:
    """Spool, database, locks and their directories are private; finished files are as the umask says, for their readers."""
    sink = configured_sink({kind: {"directory": str(tmp_path / "flows")}}, kind).sink
    sink.open()
    sink.write([flow_part(0, [row(Spot(1, 1, 0))])])
    hidden = tmp_path / "flows" / ".blobtide"
    assert stat.S_IMODE(hidden.stat().st_mode) == 0o700
    found = modes(hidden)
    assert found == {("d", "0o700"), ("f", "0o600")}
    assert {"lock", "spool", "state.db"} <= {path.name for path in hidden.rglob("*")}
    sink.close()
    finished = [path for path in (tmp_path / "flows").iterdir() if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in finished} <= {0o666}
    assert finished or kind == "summary"


def test_logs_ports_and_locks_of_up_are_private(tmp_path: Path) -> None:
    """What `up` and the cache keep beside results."""
    remember_port(tmp_path, "kafka", 1)
    supervisor = Supervisor([Program("x", ("true",), {}, tmp_path / "logs" / "x.log")])
    supervisor.start()
    supervisor.stop()
    assert modes(tmp_path) == {("d", "0o700"), ("f", "0o600")}


def test_the_lock_of_a_fetch_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else can hold up who fetches."""
    monkeypatch.setenv("BLOBTIDE_HOME", str(tmp_path))
    fetched(Recipe("thing", (Path(__file__),)), lambda _: None)
    (lock,) = tmp_path.rglob("*.lock")
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
