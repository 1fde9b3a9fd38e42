"""Sums over logs as text for people: small charts and tables."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from services.cli.analyze.analysis import LogSums, Volume, moment
from services.cli.analyze.measures import LEVELS, NO_LEVEL
from services.cli.pretty import Table, show_table
from services.cli.terminal import say

_BAR: Final = 40  # characters
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_BLOCK: Final = "█"
_MILLISECONDS: Final = 1_000  # in a second
_MOST_SERVICES: Final = 20
_MOST_STATUSES: Final = 12


def show_report(sums: LogSums, most_errors: int) -> None:
    """Print everything."""
    span = sums.span
    if span is None:
        say("no rows")
        return
    rows = ", ".join(f"{count:,} {kind}" for kind, count in sorted(sums.rows.items()))
    say(f"{sum(sums.rows.values()):,} rows ({rows}) from {moment(span[0])} to {moment(span[1])}")
    _volume(sums.volume())
    services = sums.services()
    _services(services)
    _levels([one for one in services if one["levels"]])
    requests = sums.requests()
    _requests(requests)
    _statuses(requests)
    _errors(sums.errors(most_errors))
    if sums.left_out:
        say(f"\n{sums.left_out:,} rows are in no group, because there are too many services or kinds of errors")


def bar(count: int, most: int, *, is_plain: bool) -> str:
    """Return a bar as long as `count` is of `most`; in ASCII if it is `is_plain`."""
    eighths = count * _BAR * 8 // max(most, 1)
    if is_plain:
        return "#" * (-(-eighths // 8))
    return (_BLOCK * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip() or (_EIGHTHS[1] if count else "")


def _volume(volume: Volume) -> None:
    most = max(rows for _, rows in volume.bars)
    _table(
        f"rows per {_length(volume.interval)}",
        (),
        [(moment(start), f"{rows:,}", _bar(rows, most)) for start, rows in volume.bars],
    )


def _services(services: list[dict[str, Any]]) -> None:
    most = max(one["rows"] for one in services)
    rows = [(_name(one), one["type"], f"{one['rows']:,}", _bar(one["rows"], most)) for one in services[:_MOST_SERVICES]]
    _table("services", ("SERVICE", "TYPE", "ROWS", ""), rows, len(services))


def _levels(services: list[dict[str, Any]]) -> None:
    names = [name for name in (*LEVELS, NO_LEVEL) if any(name in one["levels"] for one in services)]
    rows = [(_name(one), *(f"{one['levels'].get(name, 0):,}" for name in names)) for one in services[:_MOST_SERVICES]]
    _table("levels", ("SERVICE", *(name.upper() for name in names)), rows, len(services))


def _requests(requests: list[dict[str, Any]]) -> None:
    rows = [
        (
            _name(one),
            f"{one['requests']:,}",
            *(f"{_class(one['statuses'], first):,}" for first in range(2, 6)),
            *(_duration(value) for value in one["microseconds"].values()),
        )
        for one in requests[:_MOST_SERVICES]
    ]
    _table("requests", ("SERVICE", "REQUESTS", "2XX", "3XX", "4XX", "5XX", "P50", "P90", "P99"), rows, len(requests))


def _statuses(requests: list[dict[str, Any]]) -> None:
    found = sorted(
        ((count, _name(one), status) for one in requests for status, count in one["statuses"].items()),
        key=lambda each: (-each[0], each[1:]),
    )
    most = max((count for count, _, _ in found), default=0)
    rows = [(name, status, f"{count:,}", _bar(count, most)) for count, name, status in found[:_MOST_STATUSES]]
    _table("status codes", ("SERVICE", "STATUS", "REQUESTS", ""), rows, len(found))


def _errors(errors: list[dict[str, Any]]) -> None:
    rows = [(f"{one['count']:,}", _name(one), one["what"] or "-") for one in errors]
    _table("most frequent errors", ("ROWS", "SERVICE", "WHAT"), rows)


def _table(title: str, heading: tuple[str, ...], rows: Sequence[Sequence[str]], there_are: int = 0) -> None:
    if not rows:
        return
    say(f"\n{title}" + (f", the first {len(rows)} of {there_are:,}" if there_are > len(rows) else ""))
    show_table(Table(heading or ("",) * len(rows[0]), rows), _aligned)


def _aligned(table: Table) -> Iterable[str]:
    """Align columns, numbers to the right."""
    lines = [table.heading, *table.rows] if any(table.heading) else list(table.rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    is_number = [all(row[column][:1].isdigit() for row in table.rows) for column in range(len(lines[0]))]
    for line in lines:
        cells = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, is_number, strict=True)
        )
        yield ("  " + "  ".join(cells)).rstrip()


def _name(one: Mapping[str, Any]) -> str:
    return str(one["service"] or "-")


def _bar(count: int, most: int) -> str:
    return bar(count, most, is_plain="utf" not in (sys.stdout.encoding or "").lower())


def _class(statuses: Mapping[str, int], first: int) -> int:
    return sum(count for status, count in statuses.items() if status.startswith(str(first)))


def _duration(microseconds: int | None) -> str:
    if microseconds is None:
        return "-"
    milliseconds = microseconds / 1_000
    return f"{milliseconds:.3g} ms" if milliseconds < _MILLISECONDS else f"{milliseconds / _MILLISECONDS:.3g} s"


def _length(seconds: int) -> str:
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds % size == 0:
            count = seconds // size
            return name if count == 1 else f"{count} {name}s"
    return "second" if seconds == 1 else f"{seconds} seconds"
