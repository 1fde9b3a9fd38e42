"""Completion in shells: each Tab shows what may come next."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest
from click.shell_completion import BashComplete

from libs.common.rows.types import ROW_TYPES
from libs.common.settings.kafka import TopicSettings
from services.cli.completion import PROGRAM, SHELLS, VARIABLE
from services.cli.main import COMMANDS, blobtide
from services.sinks.frame.kind import kind_names

SECONDS: Final = 15
ROOT: Final = Path(__file__).parents[3]
SETTINGS: Final = "sinks: {hot: {kind: redis}, cold: {kind: file}}\n"
IN_BASH: Final = """
source ./script.bash
compopt() { echo "$2"; }  # without a Tab there is no completion to set options of
for line in "$@"; do
  read -ra COMP_WORDS <<< "$line"; [[ $line == *' ' ]] && COMP_WORDS+=('')
  COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )) COMPREPLY=()
  _blobtide_completion blobtide
  echo "${COMPREPLY[@]}"
done
complete -p blobtide
"""
INTERACTIVE: Final = {
    "bash": ("--norc", "-i"),
    "zsh": ("-f", "-i"),
    "fish": ("--no-config", "-i"),
}
PREPARED: Final = {"zsh": "autoload -U compinit; compinit -D -u; "}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with settings, a `blobtide` on the path, and its script for bash."""
    program = tmp_path / "bin" / PROGRAM
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m services.cli.main "$@"\n')
    program.chmod(0o755)
    (tmp_path / "my.yaml").write_text(SETTINGS)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("BLOBTIDE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(home: Path, shell: str) -> str:
    """Write the script for a shell to a file; return its name."""
    name = f"script.{shell}"
    (home / name).write_text(printed(PROGRAM, "completion", shell))
    return name


def printed(*words: str) -> str:
    """Run a program, which must succeed without a word on standard error; return what it prints."""
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=SECONDS)
    assert done.stderr == ""
    return done.stdout


def suggested(line: str) -> list[str]:
    """Return what is suggested behind a line."""
    *words, begun = line.split(" ")
    items = BashComplete(blobtide, {}, PROGRAM, VARIABLE).get_completions(words[1:], begun)
    return [item.value for item in items]


def test_bash_completes_with_the_script(home: Path) -> None:
    """Bash shows commands, choices, names from the settings, and files."""
    script(home, "bash")
    lines = ("blobtide ", "blobtide sink-m", "blobtide completion ", "blobtide run sink --config my.yaml ", "blobtide up -c ")
    *found, registered = printed("bash", "--norc", "-c", IN_BASH, "bash", *lines).splitlines()
    assert found == [" ".join(COMMANDS), "sink-maintain", "bash zsh fish", "hot cold", "default", ""]
    assert registered == "complete -o nosort -F _blobtide_completion blobtide"


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes_in_an_interactive_shell(home: Path, shell: str) -> None:
    """A command line that is finished with Tab runs what was meant."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    name = script(home, shell)
    keys = f"{PREPARED.get(shell, '')}source ./{name}\nblobtide comple\tfi\t\n"
    assert "complete --no-files --command blobtide" in typed((shell, *INTERACTIVE[shell]), keys, "blobtide_completion)")


def typed(words: tuple[str, ...], keys: str, last: str) -> str:
    """Type into a program on a terminal of its own; return what it shows, up to `last`."""
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(("setsid", "--ctty", "--wait", *words), stdin=its_end, stdout=its_end, stderr=its_end)
    os.close(its_end)
    try:
        os.write(terminal, keys.encode())
        shown, deadline = "", time.monotonic() + SECONDS
        while last not in shown:
            ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, shown
            shown += os.read(terminal, 65_536).decode(errors="replace")
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    return shown


def test_words_that_may_follow_are_suggested(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subcommands, options, choices, topics, kinds of sinks, and sinks of the settings; of none, kinds."""
    assert suggested("blobtide topics ") == ["apply", "diff"]
    assert suggested("blobtide tail --si") == ["--since"]
    assert suggested("blobtide tail --rows ") == list(ROW_TYPES)
    assert suggested("blobtide tail raw_p") == ["raw_proxy_logs"]
    assert suggested("blobtide tail flows ") == list(TopicSettings.model_fields)
    assert suggested("blobtide explore ") == [name for name in TopicSettings.model_fields if name.startswith("raw_")]
    assert suggested("blobtide sinks red") == ["redis"]
    assert suggested("blobtide sink-setup ") == list(kind_names())
    assert suggested("blobtide help topics a") == ["apply"]
    monkeypatch.setenv("BLOBTIDE_CONFIG", str(home / "my.yaml"))
    assert suggested("blobtide test-connection hot c") == ["cold"]


@pytest.mark.parametrize("text", ["sinks: [", "sinks: {a: 1, a: 2}", "- a"])
def test_nothing_shows_an_error_while_somebody_types(home: Path, text: str) -> None:
    """Settings that are broken or missing, and words that are wrong, suggest nothing."""
    (home / "broken.yaml").write_text(text)
    wrong = ("run sink -c broken.yaml ", "run sink -c missing.yaml ", "help nothing ", "help tail ", "nothing --x")
    assert [suggested(f"blobtide {line}") for line in wrong] == [[]] * len(wrong)
