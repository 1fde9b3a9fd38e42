"""`./dev test`: what it runs, and what it says where a server cannot be had."""

from __future__ import annotations

import importlib.util
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def dev(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Load the script, with checks and tests that pass, and with a server that cannot be fetched."""
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    loader = SourceFileLoader("dev", str(ROOT / "dev"))
    spec = importlib.util.spec_from_loader("dev", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "failing_checks", list)
    monkeypatch.setattr(module, "install_program", lambda *_: None)
    monkeypatch.setattr(module, "run", lambda argv: 3 if "libs.local" in argv else 0)
    return module


@pytest.mark.parametrize("arguments", [(), ("tests/unit", "-k", "segment")], ids=["everything", "arguments"])
def test_only_a_run_of_everything_is_spread_over_workers(
    arguments: tuple[str, ...], dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All tests run on two workers; with arguments, pytest gets those and nothing else."""
    commands: list[tuple[str, ...]] = []

    def run(argv: tuple[str, ...]) -> int:
        commands.append(argv[1:])
        return 0

    monkeypatch.setattr(dev, "run", run)
    monkeypatch.setattr(dev, "make_environment", lambda: None)
    assert dev.main(["test", *arguments]) == 0
    assert commands[-1] == ("-m", "pytest", *(arguments or ("-n", "2", "--maxschedchunk", "1")))


@pytest.mark.parametrize(("ci", "code", "end"), [("", 0, "all is well"), ("true", 1, "failed: servers")])
def test_a_server_that_cannot_be_had_fails_in_ci_only(
    ci: str, code: int, end: str, dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said in any case; on a developer's machine the tests that passed decide, in CI it is a failure."""
    monkeypatch.setenv("CI", ci)
    assert dev.test_everything() == code
    said = capsys.readouterr().err
    assert "not every server could be had" in said
    assert said.endswith(f"dev: {end}\n")
