"""The table of sinks and the checking of their options."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from libs.common.errors import ConfigError
from services.cli.main import blobtide
from services.sinks.frame import registry
from services.sinks.frame.registry import KINDS, configured_sink
from services.sinks.frame.settings import SinkSettings


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_where_the_table_says(kind: str) -> None:
    """Each line of the table names a module with that sink and its settings class."""
    entry = KINDS[kind]
    module = importlib.import_module(entry.module)
    assert issubclass(getattr(module, entry.settings), SinkSettings)
    assert callable(getattr(module, entry.sink))


@pytest.mark.parametrize(
    ("options", "name", "message"),
    [
        ({}, "fiel", "sinks.fiel: unknown sink 'fiel'; did you mean file?"),
        ({}, "nope", "add sinks.nope with its kind to the settings"),
        ({"cold": {"kind": "file"}}, "colt", "did you mean cold?"),
        ({"a": {"kind": "kafka"}}, "a", "sinks.a: unknown sink 'kafka'"),
        ({"a": {"kind": ["file"]}}, "a", "sinks.a: unknown sink ['file']"),
        ({"a b": {"kind": "stdout"}}, "a b", "letters, digits"),
        ({}, "file", "sinks.file.directory: missing"),
        ({"stdout": {"fromat": "csv"}}, "stdout", "sinks.stdout.fromat: unknown setting; did you mean format?"),
        ({"stdout": {"batch": {"secnds": 1}}}, "stdout", "sinks.stdout.batch.secnds: unknown setting; did you mean seconds?"),
        ({"stdout": {"batch": {"seconds": -1}}}, "stdout", "sinks.stdout.batch.seconds: Input should be greater than 0"),
    ],
)
def test_wrong_options_are_named_by_path(options: dict[str, Any], name: str, message: str) -> None:
    """Errors say which option of which sink is wrong, and what was probably meant."""
    with pytest.raises(ConfigError) as error:
        configured_sink(options, name)
    assert message in str(error.value)


def test_one_kind_can_run_twice(tmp_path: Path) -> None:
    """`kind` makes a sink of another name."""
    options = {name: {"kind": "file", "directory": str(tmp_path / name)} for name in ("hot", "cold")}
    assert [configured_sink(options, name).name for name in options] == ["hot", "cold"]


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its library a sink says what to install."""
    monkeypatch.setitem(sys.modules, "not_there", None)
    broken = replace(KINDS["redis"], module="not_there", library="not_there_either")
    monkeypatch.setattr(registry, "KINDS", {"redis": broken})
    with pytest.raises(ConfigError, match=r"the redis sink needs not_there: pip install 'blobtide\[redis\]'"):
        configured_sink({}, "redis")
    assert not registry.installed(broken)


def test_the_command_lists_sinks_and_says_what_needs_no_setup() -> None:
    """`blobtide sinks` shows each kind with its promise; `sink-setup` of a sink without set-up says so."""
    listed = CliRunner().invoke(blobtide, ["sinks"]).output
    assert all(kind in listed and entry.promise in listed for kind, entry in KINDS.items())
    assert CliRunner().invoke(blobtide, ["sink-setup", "stdout"]).output == "stdout: needs no set-up\n"
