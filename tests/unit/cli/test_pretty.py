"""Tables, colours and progress on a terminal, and plain text elsewhere."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

from services.cli.pretty import Table, show_table
from services.cli.up.supervisor import ProgramState, StateChange
from services.cli.up.view import View
from tests.unit.cli.test_terminal import EVIL, SHOWN

_TABLE = """
from services.cli.pretty import Table, show_table
long = "word " * 30
show_table(Table(("NAME", "WHAT"), [("a", long), ("b", {evil!r} + "AccountKey=hunter2")], lambda row: "red"))
"""
_PROGRESS = """
import itertools
from services.cli.pretty import ProgressLine
line = ProgressLine(3, clock=itertools.count().__next__)
for done in range(1, 4):
    line.show(done, lambda: f"{{done}} MB of {evil!r}")
line.clear()
"""
_COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m")


def _on_terminal(code: str, **environ: str) -> str:
    """Run `code` with standard output and error on a terminal of 60 columns and return what that got."""
    main, end = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR", "COLORTERM"}}
    env |= {"TERM": "xterm-256color", "COLUMNS": "60"} | environ
    argv = (sys.executable, "-c", code.format(evil=EVIL))
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=end, stderr=end, check=True, env=env, timeout=60)
    os.close(end)
    try:
        return os.read(main, 1 << 16).decode().replace("\r\n", "\n")
    finally:
        os.close(main)


def _without_colour(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_table_on_a_terminal_fits_its_width_and_has_colours() -> None:
    """Long texts go on in the next line of their column; the heading stands out."""
    shown = _on_terminal(_TABLE)
    assert "\x1b[1m" in shown
    assert _COLOUR.search(shown)
    lines = _without_colour(shown).splitlines()
    assert max(map(len, lines)) <= 60
    assert "".join(lines).count("word") == 30
    assert lines[0].split() == ["NAME", "WHAT"]


@pytest.mark.parametrize(("environ", "expected"), [({"NO_COLOR": "1"}, True), ({"TERM": "dumb"}, False)])
def test_whoever_wants_no_colours_gets_none(environ: dict[str, str], *, expected: bool) -> None:
    """With NO_COLOR the heading may still be bold; a terminal that obeys nothing gets nothing to obey."""
    shown = _on_terminal(_TABLE, **environ)
    assert not _COLOUR.search(shown)
    assert ("\x1b" in shown) is expected


def test_a_table_cannot_steer_the_terminal_and_holds_no_secrets() -> None:
    """Names from outside are shown with escapes, as in every other output."""
    shown = _without_colour(_on_terminal(_TABLE, COLUMNS="200"))
    assert SHOWN in shown
    assert "hunter2" not in shown
    assert not set(EVIL) - {"[", "2", "J"} & set(shown)


def test_a_table_that_is_piped_is_plain_and_as_wide_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Aligned columns, or the lines that the command makes, without anything for a terminal."""
    table = Table(("NAME", "WHAT"), [("a", "x" * 200), ("bbbbbb", EVIL)], lambda _: "red")
    show_table(table)
    assert capsys.readouterr().out == f"NAME    WHAT\na       {'x' * 200}\nbbbbbb  {SHOWN}\n"
    show_table(table, lambda given: (f"{name}!" for name, _ in given.rows))
    assert capsys.readouterr().out == "a!\nbbbbbb!\n"


def test_without_its_library_a_terminal_gets_plain_text() -> None:
    """It is an extra: the table is aligned, and progress is a line of text."""
    without = "import services.cli.pretty as pretty\npretty._has_rich = lambda: False\n"
    shown = _on_terminal(without + _TABLE)
    assert "\x1b" not in shown
    assert shown.splitlines()[0] == "NAME  WHAT"
    shown = _on_terminal(without + _PROGRESS)
    assert "3 MB of" in shown
    assert shown.endswith("\r\x1b[K")


def test_progress_is_one_line_that_leaves_nothing_behind() -> None:
    """It is written over, says how much is done, and is removed at the end."""
    shown = _on_terminal(_PROGRESS)
    assert "\n" not in shown
    for done in range(1, 4):
        assert f"{done}/3" in shown
        assert f"{done} MB of" in _without_colour(shown)
    assert not set(EVIL) - set("[2J\x1b") & set(shown)
    assert r"\u202e" in shown
    assert shown.endswith("\r\x1b[K")


def test_progress_is_not_shown_where_there_is_no_terminal() -> None:
    """A log holds no half lines."""
    done = subprocess.run(
        (sys.executable, "-c", _PROGRESS.format(evil=EVIL)), capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("", "")


class _Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_what_up_shows_is_coloured_on_a_terminal_only(tmp_path: Path) -> None:
    """The words are the same in a log; a reason from outside cannot steer the terminal."""
    terminal, file = _Terminal(), StringIO()
    for out in (terminal, file):
        view = View(out)
        view.server("kafka", "127.0.0.1:9092")
        view.changed(StateChange("parser", ProgramState.FAILED, f"it said {EVIL}"))
        view.stopped(tmp_path)
    assert "\x1b" not in file.getvalue()
    assert _without_colour(terminal.getvalue()) == file.getvalue()
    assert SHOWN in file.getvalue()
    if os.environ.get("TERM", "dumb") != "dumb" and "NO_COLOR" not in os.environ:
        assert _COLOUR.search(terminal.getvalue())
