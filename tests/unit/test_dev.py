"""`./dev`: what it runs, what it passes on to blobtide, and what it says where a server cannot be had."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
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
    """All tests run on several workers; with arguments, pytest gets those and nothing else."""
    commands: list[tuple[str, ...]] = []

    def run(argv: tuple[str, ...]) -> int:
        commands.append(argv[1:])
        return 0

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(dev, "run", run)
    monkeypatch.setattr(dev, "make_environment", lambda: None)
    assert dev.main(["test", *arguments]) == 0
    assert commands[-1] == ("-m", "pytest", *(arguments or ("-n", "3", "--dist", "loadgroup")))


def test_ci_measures_what_unit_and_contract_tests_reach(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coverage is measured there and nowhere else; together both runs are all tests, and either of them fails the build."""
    commands: list[tuple[str, ...]] = []

    def run(argv: tuple[str, ...]) -> int:
        commands.append(argv[1:])
        return 1 if "--cov" in argv else 0

    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(dev, "run", run)
    assert dev.test_everything() == 1
    measured, rest = (command[command.index("loadgroup") + 1 :] for command in commands[-2:])
    assert measured == ("--cov", "--cov-report=", "-m", "measured", "tests/unit", "tests/contract")
    assert rest == ("-m", "not measured", "--ignore=tests/unit"), "all unit tests are measured"


@pytest.mark.parametrize(
    "words", [("up", "--demo"), ("up", "--demo", "--for", "30"), ("tail", "-f", "flows"), ("up", "--help")]
)
def test_other_words_are_those_of_blobtide(words: tuple[str, ...], dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """`./dev up --demo` makes the environment, then is `blobtide up --demo` of that one; `up` alone gets Maven, for Kafka."""
    steps: list[tuple[object, ...]] = []
    monkeypatch.setattr(dev, "make_environment", lambda: steps.append(("environment",)))
    monkeypatch.setattr(dev, "install_program", lambda *names: steps.append(names))
    monkeypatch.setattr(dev, "become", lambda *argv: steps.append(argv))
    dev.main([*words])
    maven = [("mvn", "maven")] if words[0] == "up" else []
    assert steps == [("environment",), *maven, (ROOT / ".venv" / "bin" / "blobtide", *words)]


def test_becoming_blobtide_passes_its_words_on(tmp_path: Path) -> None:
    """The program gets the words as they are, and its exit code is that of `dev`."""
    program = tmp_path / "blobtide"
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\nexit 7\n')
    program.chmod(0o755)
    code = f"import runpy; runpy.run_path({str(ROOT / 'dev')!r})['become']({str(program)!r}, 'up', '--data-dir', 'a b')"
    done = subprocess.run((sys.executable, "-B", "-c", code), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (7, "up|--data-dir|a b|")


@pytest.mark.parametrize(("ci", "code", "end"), [("", 0, "everything passed"), ("true", 1, "failed: servers")])
def test_a_server_that_cannot_be_had_fails_in_ci_only(
    ci: str, code: int, end: str, dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said in any case; on a developer's machine the tests that passed decide, in CI it is a failure."""
    monkeypatch.setenv("CI", ci)
    assert dev.test_everything() == code
    said = capsys.readouterr().err
    assert "some servers are unavailable" in said
    assert said.endswith(f"dev: {end}\n")
