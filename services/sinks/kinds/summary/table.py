"""The growing summary as a table for people, as wide as the terminal allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from libs.common.rows.protocol_names import protocol_names

_GAP: Final = "  "
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_THOUSAND: Final = 1_000
_TEN: Final = 10
_MIN_ADDRESS: Final = 12

Talker = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Totals:
    """The figures above the table."""

    flows: int
    late_flows: int
    newest_ms: int


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    text: Callable[[Talker], str]
    right: bool = True


def size_text(count: int) -> str:
    """Return a number of bytes with about three digits: ``1.2 MB``."""
    value, unit = float(count), 0
    while value >= _THOUSAND and unit < len(_UNITS) - 1:
        value, unit = value / _THOUSAND, unit + 1
    digits = 1 if unit and value < _TEN else 0
    return f"{value:.{digits}f} {_UNITS[unit]}"


def _time_text(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / _THOUSAND, UTC).strftime("%H:%M:%S")


def _service(talker: Talker) -> str:
    names = protocol_names(pa.array([talker["protocol"]], pa.uint8()))
    return f"{names[0]}/{talker['service_port']}"


# In order of importance: a narrow terminal drops the last ones.
_COLUMNS: Final = (
    _Column("SERVICE", _service, right=False),
    _Column("LOCAL", lambda t: t["local_ip"], right=False),
    _Column("", lambda t: {"inbound": "<-", "outbound": "->"}.get(t["direction"], "--"), right=False),
    _Column("REMOTE", lambda t: t["remote_ip"], right=False),
    _Column("IN", lambda t: size_text(t["total_bytes_in"])),
    _Column("OUT", lambda t: size_text(t["total_bytes_out"])),
    _Column("FLOWS", lambda t: f"{t['flows']:,}"),
    _Column("SESSION IN", lambda t: size_text(t["bytes_in"])),
    _Column("SESSION OUT", lambda t: size_text(t["bytes_out"])),
    _Column("SINCE", lambda t: _time_text(t["since"])),
    _Column("LAST", lambda t: _time_text(t["last"])),
)
_ADDRESSES: Final = (1, 3)


def summary_table(totals: Totals, talkers: Sequence[Talker], width: int) -> str:
    """Return the table of top talkers, with no line longer than `width` as long as it remains readable."""
    late = f", {totals.late_flows:,} late" if totals.late_flows else ""
    newest = datetime.fromtimestamp(totals.newest_ms / _THOUSAND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    head = f"{totals.flows:,} flows until {newest}{late}; top {len(talkers)} by bytes"
    cells = [[column.title for column in _COLUMNS], *([column.text(talker) for column in _COLUMNS] for talker in talkers)]
    widths = _fitted([max(len(row[i]) for row in cells) for i in range(len(_COLUMNS))], width)
    return "\n".join([head, *(_line(row, widths) for row in cells)]) + "\n"


def _fitted(widths: list[int], limit: int) -> list[int]:
    """Drop columns from the right, then shorten addresses, until a line fits."""
    while len(widths) > _ADDRESSES[-1] + 3 and _length(widths) > limit:
        widths = widths[:-1]
    for at in reversed(_ADDRESSES):
        widths[at] = max(_MIN_ADDRESS, min(widths[at], widths[at] - (_length(widths) - limit)))
    return widths


def _length(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        text.rjust(width) if column.right else _shortened(text, width).ljust(width)
        for text, width, column in zip(row, widths, _COLUMNS, strict=False)
    ]
    return _GAP.join(cells).rstrip()


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 2] + ".."
