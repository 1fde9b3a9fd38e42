"""Gzipped blobs of logs in every format that the parser reads, which grow member by member, and the truth about each line.

Pods of the demo write what programs, proxies and containers in Kubernetes write; *printers* write every other format, and lines
that cannot be read.
"""

from __future__ import annotations

import gzip
import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from libs.common.messages.blobs import BlobId
from libs.common.settings.selectors import PRESETS
from libs.demo.applogs.fleet import Fleet, MemberAppend, collect
from libs.demo.applogs.spec import LogSpec
from libs.demo.applogs.truth import truth_batch
from libs.demo.truth import RowRange

PRINTER: Final = "printer"
SELECTORS: Final = (*PRESETS, {"name": PRINTER, "prefix": f".{PRINTER}-"})
NO_ROWS: Final = RowRange(truth_batch([]), 0, 0)

Truth = dict[str, Any]
"""What is known of a line, by columns of `LOG_TRUTH_SCHEMA`; of one that cannot be read also its bytes, as ``refused``."""


@dataclass(frozen=True, slots=True)
class Form:
    """A form of lines that a printer writes.

    Attributes:
        text: the line, with ``N`` for its number.
        row_type: what it becomes; None if it cannot be read.
        known: what its row says, in terms of the same number.
    """

    text: bytes
    row_type: str | None
    known: tuple[tuple[str, str], ...] = ()


_PATH: Final = (("url_path", "/N"),)
FORMS: Final = (
    Form(b'10.0.0.1 - - [01/May/2026:12:00:00 +0000] "GET /N?b=c HTTP/1.1" 200 5 "-" "curl/8"', "http", _PATH),
    Form(
        b"2026-05-01 12:00:00 SITE GET /N b=c 443 - 10.0.0.1 curl/8 - - shop.example 200 0 0 500 600 15", "http", _PATH
    ),
    Form(b'{"time":"2026-05-01T12:00:00Z","logs":{"requestFirstLine":"GET /N HTTP/1.1","status":"200"}}', "http", _PATH),
    Form(b'ts=2026-05-01T12:00:00Z level=info msg="order N placed"', "application", (("body", "order N placed"),)),
    Form(b"2026-05-01T12:00:01.5Z stdout F order N", "application", (("body", "order N"),)),
    Form(b'{"time":"2026-05-01T12:00:00Z","level":"WARN","message":"order N"}', "application", (("body", "order N"),)),
    Form(
        b'{"time":"2026-05-01T12:00:00Z","resourceId":"/r","category":"AuditEvent","resultDescription":"order N"}',
        "application",
        (("body", "order N"), ("resource_id", "/r")),
    ),
    Form(b"2026-05-01 12:00:00,123 ERROR order N", "application", (("body", "2026-05-01 12:00:00,123 ERROR order N"),)),
    Form(b"order N \xc3\xa4", "application", (("body", "order N \u00e4"),)),
    Form(b'{"time":"2026-05-01T12:00:00Z","message":"order N"', None),
    Form(b"order N \xff", None),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LogEstate:
    """Appends in their order, the final size of each blob that is followed, and what is known of each line in these."""

    appends: tuple[MemberAppend, ...]
    sizes: dict[str, int]
    lines: tuple[Truth, ...]

    def rows(self, row_type: str) -> list[Truth]:
        """Return what is known of the lines that become rows of a type."""
        return [line for line in self.lines if line["row_type"] == row_type]

    @property
    def refused(self) -> list[Truth]:
        """What is known of the lines that become dead letters."""
        return [line for line in self.lines if "refused" in line]


def log_estate(spec: LogSpec, printers: int) -> LogEstate:
    """Return the logs of a fleet and of some printers, which write as many lines. The fleet must end."""
    own = [_Printer(spec, number) for number in range(printers)]
    appends = [*Fleet(spec).appends(), *(append for printer in own for append in printer.appends())]
    of_fleet = [row for row in collect(Fleet(spec).appends()).truth.to_pylist() if row["service"] is not None]
    lines = (*of_fleet, *(line for printer in own for line in printer.lines))
    followed = {line["blob"] for line in lines}
    sizes = {str(one.blob): one.offset + one.size for one in appends if str(one.blob) in followed}
    return LogEstate(tuple(sorted(appends, key=lambda append: append.due)), sizes, lines)


class _Printer:
    """A pod with a blob to which each minute appends a member, whose ends are anywhere in lines."""

    def __init__(self, spec: LogSpec, number: int) -> None:
        self._spec = spec
        self._number = number
        self._dice = random.Random(f"{spec.seed}/{PRINTER}/{number}")
        container = hashlib.sha256(f"{spec.seed}/{number}".encode()).hexdigest()
        name = f"kubernetes/{spec.start:%Y%m%d}.{PRINTER}-{number}_default_{PRINTER}-{container}.gz"
        self._blob = BlobId(spec.account, spec.container, name)
        self._count = int(spec.lines_per_minute * (spec.minutes or 1))
        self.lines: list[Truth] = []

    def appends(self) -> Iterator[MemberAppend]:
        """Yield all appends; all lines are known afterwards."""
        text, size = self._text(), 0
        minutes = self._spec.minutes or 1
        cuts = sorted(self._dice.randrange(len(text)) for _ in range(minutes - 1))
        for minute, (begin, end) in enumerate(pairwise([0, *cuts, len(text)])):
            due = datetime.fromtimestamp((self._spec.first_minute + minute) * 60, UTC) + timedelta(seconds=62)
            member = gzip.compress(text[begin:end])
            yield MemberAppend(self._spec.pods + self._number, self._blob, due, size, member, NO_ROWS)
            size += len(member)

    def _text(self) -> bytes:
        offset, text = 0, []
        for number in range(self._count):
            form = self._dice.choice(FORMS)
            line = form.text.replace(b"N", b"%d" % number)
            at = {"blob": str(self._blob), "line_offset": offset, "row_offset": offset, "row_type": form.row_type}
            said = {name: value.replace("N", str(number)) for name, value in form.known}
            self.lines.append({**at, "service": PRINTER, **said, **({} if form.row_type else {"refused": line})})
            text.append(line + b"\n")
            offset += len(line) + 1
        return b"".join(text)


LEFT_OUT: Final = frozenset({"line_length", "row_offset", "row_type", "skipped", "shape", "body", "observed_time"})


def assert_rows_of_lines(rows: Sequence[Truth], lines: Sequence[Truth]) -> None:
    """Check that rows of one type and blob are these lines, each once, with what is known of them.

    A stack trace may be divided into rows at any of its lines; these say together what it says, and only the first of them
    knows its level and logger.

    Raises:
        AssertionError: with the first difference.
    """
    found = {row["line_offset"]: row for row in rows}
    assert len(found) == len(rows), "a line became several rows"
    known = {line["line_offset"]: line for line in lines}
    firsts = {offset for offset, line in known.items() if line["row_offset"] == offset}
    assert firsts <= found.keys() <= known.keys(), sorted(firsts - found.keys())[:3] or sorted(found.keys() - known.keys())[:3]
    bodies: dict[int, list[Any]] = {}
    for offset, row in sorted(found.items()):
        bodies.setdefault(known[offset]["row_offset"], []).append(row.get("body"))
    for offset in firsts:
        line, row = known[offset], found[offset]
        wanted = {name: value for name, value in line.items() if name in row and name not in LEFT_OUT}
        assert {name: row[name] for name in wanted} == wanted
        if "body" in row:
            assert "\n".join(bodies[offset]) == line["body"]
