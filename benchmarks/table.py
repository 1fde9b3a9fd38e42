"""Render rows as one Markdown table that is readable as plain text. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.before import COST, Costs, cost
from benchmarks.measured import MIB, Measured

_MB = 1_000_000
_NOTHING = ""

Cell = Callable[[Measured], str]


def render(rows: Sequence[Measured], before: Costs | None = None) -> str:
    """Return the table; figures that were not measured or make no sense for a row are left blank."""
    earlier: dict[str, Cell] = {} if before is None else {"before": lambda row: _before(row, before)}
    columns: dict[str, Cell] = {
        "stage": lambda row: row.stage,
        "estate": lambda row: row.estate,
        **earlier,
        COST: lambda row: f"{cost(row):.2f}" if row.work.tuples else _NOTHING,
        "±": lambda row: _NOTHING if row.spread is None else f"{50 * row.spread:.0f} %",
        "tuples/s per core": lambda row: _per(row.work.tuples, row.cpu, _count),
        "tuples/s": lambda row: _per(row.work.tuples, row.wall, _count),
        "MB/s per core": lambda row: _per(row.work.bytes, row.cpu, _size),
        "MB/s": lambda row: _per(row.work.bytes, row.wall, _size),
        "blobs/s per core": lambda row: _per(row.work.blobs, row.cpu, _count),
        "blobs/s": lambda row: _per(row.work.blobs, row.wall, _count),
        "peak MiB": lambda row: f"{row.memory.peak / MIB:.0f}" if row.memory else _NOTHING,
        "MiB/min": _growth,
        "speed": lambda row: _compared(row, rows),
        "ends when": lambda row: row.ends,
    }
    cells = [list(columns), *([cell(row) for cell in columns.values()] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    words = {index for index, name in enumerate(columns) if name in {"stage", "estate", "speed", "ends when"}}
    rule = ["-" * width if index in words else "-" * (width - 1) + ":" for index, width in enumerate(widths)]
    return "\n".join(_line(line, widths, words) for line in [cells[0], rule, *cells[1:]])


def _line(cells: Sequence[str], widths: Sequence[int], words: set[int]) -> str:
    padded = [
        cell.ljust(width) if index in words else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"


def _per(amount: float, seconds: float | None, form: Callable[[float], str]) -> str:
    return form(amount / seconds) if amount and seconds else _NOTHING


def _count(value: float) -> str:
    """Round to three digits: measurements are not more precise."""
    digits = max(0, len(str(int(value))) - 3)
    return f"{round(value, -digits):,.0f}"


def _size(value: float) -> str:
    return f"{value / _MB:.1f}"


def _before(row: Measured, before: Costs) -> str:
    known = before.get((row.stage, row.estate))
    return _NOTHING if known is None else f"{known:.2f}"


def _growth(row: Measured) -> str:
    if row.memory is None or row.memory.growth is None:
        return _NOTHING
    return f"{row.memory.growth / MIB:+.1f}"


def _compared(row: Measured, rows: Sequence[Measured]) -> str:
    """Return how fast the row is, by CPU per byte, compared with the stage that it names."""
    other = next((one for one in rows if (one.stage, one.estate) == (row.against, row.estate)), None)
    if other is None:
        return _NOTHING
    ratio = (row.work.bytes / row.cpu) / (other.work.bytes / other.cpu)
    return f"{ratio:.1f} x {other.stage}" if ratio >= 1 else f"{ratio:.2f} x {other.stage}"
