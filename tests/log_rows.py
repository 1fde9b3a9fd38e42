"""Lines of logs in, rows out: what the tests of formats have in common."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from libs.common.messages.segments import Segment, SegmentFormat
from libs.common.rows.types.spans import SPANS
from services.parser.extraction import Arrived, Extraction
from services.parser.logs.kernel import LogKernel
from services.parser.logs.options import LogOptions
from tests.row_samples import values_of

OBSERVED: Final = "2026-05-01T13:00:00.000000000Z"
START: Final = 4_096
_OBSERVED: Final = int(datetime(2026, 5, 1, 13, tzinfo=UTC).timestamp()) * 1_000_000_000
_SAME: Final = {"blob": "cp2.P1/logs/x", "generation": "g", "line_index": 0}


def line_of(document: dict[str, Any]) -> str:
    """Return a document as a line."""
    return json.dumps(document, separators=(",", ":"))


def parse(*lines: str, options: LogOptions | None = None, labels: str = "", is_proxy: bool = False) -> Extraction:
    """Read lines of one segment."""
    data = "".join(f"{line}\n" for line in lines).encode()
    segment = Segment(str(_SAME["blob"]), "g", START, START + len(data), 0, SegmentFormat.LINES, data, labels=labels.encode())
    return LogKernel(options or LogOptions(), is_proxy_stream=is_proxy).extract(Arrived([segment], [_OBSERVED]))


def rows(parsed: Extraction) -> list[dict[str, Any]]:
    """Return whole rows but for spans, without nulls, in the order of lines, each with its ``type``; times are text."""
    found = []
    for table in parsed.tables:
        if table.row_type is SPANS:
            continue
        times = {name: table.batch[name].cast("int64").to_pylist() for name in ("time", "observed_time")}
        for number, row in enumerate(table.batch.drop_columns(list(times)).to_pylist()):
            for name, value in _SAME.items():
                assert row.pop(name) == value
            stated = {name: value for name, value in row.items() if value is not None}
            texts = {name: _text(column[number]) for name, column in times.items()}
            found.append({"type": table.row_type.name, **texts, **stated})
    return sorted(found, key=lambda row: int(row["line_offset"]))


def spans(parsed: Extraction) -> list[dict[str, Any]]:
    """Return spans with nulls, as they are in order; times are whole numbers of nanoseconds."""
    batches = [table.batch for table in parsed.tables if table.row_type is SPANS]
    return [span for batch in batches for span in values_of(pa.Table.from_batches([batch]))]


def outcomes(parsed: Extraction) -> list[tuple[str, str]]:
    """Return code and reason of dead letters, and skipped lines as ``("skipped", reason)``."""
    letters = [(letter.code.value, letter.reason) for letter in parsed.dead_letters]
    return letters + [("skipped", reason) for reason in parsed.skipped.elements()]


def _text(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
