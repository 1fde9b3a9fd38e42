"""What `blobtide up` starts its programs with."""

from __future__ import annotations

import os
from io import StringIO
from pathlib import Path

import pytest

from libs.common.settings import Settings, load_settings
from services.cli import up
from services.cli.supervisor import Program
from services.cli.up_view import View

EARNEST = """
subscriptions:
  production:
    environments:
      eu: {storage: {account_name: logs, account_key: a2V5}, sources: [{container: insights-logs-flowlogflowevent}]}
sinks:
  elasticsearch: {hosts: ["https://search:9200"]}
"""


def options(tmp_path: Path, *, demo: bool, config: Path | None) -> up.UpOptions:
    """Return what the command line would say."""
    return up.UpOptions(
        config=config, data_dir=tmp_path, demo=demo, fresh=False, start_over=False, nics=1, speed=60, seconds=None
    )


def programs(asked: up.UpOptions, environ: dict[str, str]) -> list[Program]:
    """Return what would be started."""
    return list(up._Up(asked, load_settings(asked.config), View(StringIO()))._programs(environ))


def loaded_by(program: Program, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings as a program loads them."""
    with monkeypatch.context() as patch:
        for name, value in program.env.items():
            patch.setenv(name, value)
        return load_settings()


@pytest.fixture
def earnest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put settings where they are found by default."""
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / ".blobtide" / "config.yaml"
    file.parent.mkdir()
    file.write_text(EARNEST)
    return file


def test_the_demo_leaves_the_default_settings_file_alone(
    earnest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --config, neither the accounts nor the destinations of ~/.blobtide/config.yaml take part in the demo."""
    del earnest
    asked = up._without_default_file(options(tmp_path, demo=True, config=None))
    started = programs(asked, up._demo_settings("UseDevelopmentStorage=true"))
    assert [program.name for program in started] == ["blob-monitor", "ingest", "parser", "sink-file", "sink-summary", "demo"]
    for program in started:
        settings = loaded_by(program, monkeypatch)
        assert list(settings.subscriptions) == ["demo"]
        assert list(settings.sinks) == ["file", "summary"]


@pytest.mark.parametrize("demo", [True, False])
def test_a_named_settings_file_reaches_every_program(
    *, demo: bool, earnest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What --config names is read by all programs, with the demo and without."""
    named = earnest.rename(tmp_path / "my.yaml")
    asked = up._without_default_file(options(tmp_path, demo=demo, config=named))
    for program in programs(asked, {}):
        assert os.fspath(named) == program.env["BLOBTIDE_CONFIG"]
        assert list(loaded_by(program, monkeypatch).sinks) == ["elasticsearch"]
