"""What a terminal gets instead of plain lines: tables that fit its width, colours, and a progress line.

`rich` lays it out, and is loaded only where standard output or error is a terminal: what goes to a file or a pipe stays plain
text, and starting a command costs no more. It is an extra, `terminal`: where it is installed, structlog loads it into every
process, which takes 50 ms. Without it a terminal gets plain text too. `NO_COLOR` and `TERM=dumb` are honoured. All text given
here may come from outside; what a terminal would obey in it is shown as escapes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from libs.common.security.redaction import redact
from libs.common.security.visible import visible_line
from services.cli.terminal import draw, paint, say

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID

_PROGRESS_SECONDS: Final = 0.5

Row = Sequence[str]
ONE_GAP: Final = "  "


@dataclass(frozen=True, slots=True)
class Table:
    """Rows for people.

    Attributes:
        heading: a name a column.
        rows: as many texts each, of any length.
        style: how a row looks on a terminal, as `rich` names styles; plain if empty.
    """

    heading: Row
    rows: Sequence[Row]
    style: Callable[[Row], str] = lambda _: ""


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def show_table(table: Table, plain: Callable[[Table], Iterable[str]] | None = None) -> None:
    """Print `table`; where standard output is no terminal, as the lines that `plain` makes of it, which aligns columns."""
    if is_terminal() and _has_rich():
        paint(_rendered(_laid_out(table)))
        return
    for line in (plain or _aligned)(table):
        say(line)


def styled(line: str, style: str) -> str:
    """Return one line for a terminal, in a style of `rich`'s, such as "bold" or "yellow"."""
    text = visible_line(redact(line))
    if not style or not _has_rich():
        return text
    from rich.text import Text

    return _rendered(Text(text, style), is_cut=False).rstrip("\n")


class ProgressLine:
    """A line on standard error that is written over while something takes long; nothing where that is no terminal.

    Args:
        total: how much there is to do; None if that is not known.
        on: whether to show it at all.
    """

    def __init__(self, total: int | None, *, on: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._on = on and sys.stderr.isatty()
        self._clock = clock
        self._next = clock() + _PROGRESS_SECONDS
        self._shown = False
        self._bar: tuple[Progress, TaskID] | None = None

    def show(self, done: int, text: Callable[[], str]) -> None:
        """Say how much is done, and `text`; at most every half second."""
        if not self._on or self._clock() < self._next:
            return
        self._next = self._clock() + _PROGRESS_SECONDS
        self._shown = True
        draw(f"\r{self._line(done, visible_line(text()))}\x1b[K")

    def _line(self, done: int, text: str) -> str:
        if not _has_rich():
            return text
        bar, task = self._bar = self._bar or _bar(self._total, self._clock)
        bar.update(task, completed=done, text=text)
        return _rendered(bar.get_renderable()).rstrip()

    def clear(self) -> None:
        """Remove the line, before something else is printed or at the end."""
        if self._shown:
            self._shown = False
            draw("\r\x1b[K")


def _aligned(table: Table) -> Iterable[str]:
    rows = [table.heading, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.heading))]
    for row in rows:
        yield ONE_GAP.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _laid_out(table: Table) -> RenderableType:
    from rich.table import Table as Laid
    from rich.text import Text

    laid = Laid(box=None, pad_edge=False, padding=(0, len(ONE_GAP), 0, 0), header_style="bold")
    for name in table.heading:
        laid.add_column(name, overflow="fold")
    for row in table.rows:
        style = table.style(row)
        laid.add_row(*(Text(visible_line(redact(text)), style) for text in row))
    return laid


def _bar(total: int | None, clock: Callable[[], float]) -> tuple[Progress, TaskID]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    counted = (BarColumn(20), MofNCompleteColumn()) if total else ()
    columns = (*counted, TextColumn("{task.fields[text]}", markup=False), TimeElapsedColumn())
    bar = Progress(*columns, console=_console(), auto_refresh=False, get_time=clock)
    return bar, bar.add_task("", total=total, text="")


def _rendered(what: RenderableType, *, is_cut: bool = True) -> str:
    console = _console()
    with console.capture() as capture:
        console.print(what, soft_wrap=not is_cut, highlight=False)
    return capture.get()


@cache
def _has_rich() -> bool:
    return find_spec("rich") is not None


@cache
def _console() -> Console:
    from rich.console import Console

    return Console(force_terminal=True, highlight=False, markup=False, emoji=False)
