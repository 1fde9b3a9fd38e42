"""Sums over rows of logs, compared with the same sums made row by row."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from libs.common.rows.row_type import RowType
from libs.common.rows.types.application import APPLICATION
from libs.common.rows.types.http import HTTP
from libs.common.rows.types.proxy import PROXY
from services.cli.analyze import analysis
from services.cli.analyze.analysis import LogSums
from services.cli.analyze.grouped import GroupedCounts
from services.cli.analyze.measures import slim
from services.cli.analyze.newest import NewestRows
from services.cli.analyze.report import bar, show_report
from services.cli.main import run

T = datetime(2026, 5, 1, 12, tzinfo=UTC)


def table(row_type: RowType, rows: list[dict[str, Any]]) -> pa.Table:
    """Return rows with these values; whatever else they must have is that of the example."""
    needed = {column.name for column in row_type.columns if not column.nullable}
    example = {name: value for name, value in row_type.example.items() if name in needed}
    return pa.Table.from_pylist([{**example, **row} for row in rows], schema=row_type.schema)


def added(batches: list[tuple[RowType, list[dict[str, Any]]]]) -> LogSums:
    """Return the sums over batches."""
    sums = LogSums()
    for row_type, rows in batches:
        sums.add(row_type, slim(table(row_type, rows)))
    return sums


def test_levels_are_counted_by_service() -> None:
    """OpenTelemetry's numbers are four a level; rows without a known one are counted too, and so are those of no service."""
    numbers = {1: "trace", 4: "trace", 5: "debug", 9: "info", 12: "info", 13: "warn", 17: "error", 24: "fatal", 0: "none"}
    rows = [{"service": "api", "severity_number": number} for number in numbers] + [{}, {"service": "api"}]
    found = added([(APPLICATION, rows[:3]), (APPLICATION, rows[3:])]).services()
    assert found == [
        {"type": "application", "service": "api", "rows": 10, "levels": Counter([*numbers.values(), "none"])},
        {"type": "application", "service": None, "rows": 1, "levels": {"none": 1}},
    ]


def test_errors_that_differ_in_numbers_and_ids_are_one() -> None:
    """Most frequent first; of several lines the first, and requests by status, method and path."""
    bodies = [f"order {number} of cart 0x{number:x}ff lost\n\tat Orders.java:{number}" for number in range(5)]
    rows = [{"service": "api", "severity_number": 17, "exception_type": "NoStock", "body": body, "time": T} for body in bodies]
    rows += [{"service": "api", "severity_number": 13, "body": "no error"}, {"service": "api", "severity_number": 21}]
    failing = [{"http_response_status_code": status, "url_path": f"/cart/{status}", "service": "web"} for status in (500, 499)]
    found = added([(APPLICATION, rows), (HTTP, failing)]).errors(10)
    assert found == [
        {"count": 5, "service": "api", "what": "NoStock order # of cart # lost"},
        {"count": 1, "service": "api", "what": ""},
        {"count": 1, "service": "web", "what": "500 GET /cart/#"},
    ]


def test_percentiles_are_exact_to_two_percent() -> None:
    """By service, over all batches; statuses beside them, and requests without either are no trouble."""
    made = random.Random(1)
    times = [int(made.lognormvariate(9, 2)) for _ in range(20_000)]
    rows = [{"service": "web", "response_time": time, "http_response_status_code": 200 + time % 3} for time in times]
    quiet = [{"service": "web", "response_time": None, "http_response_status_code": None}]
    sums = added([(HTTP, rows[:7_000]), (PROXY, rows[7_000:]), (PROXY, quiet)])
    [found] = sums.requests()
    assert found["requests"] == 20_000
    assert found["statuses"] == {str(status): n for status, n in Counter(200 + time % 3 for time in times).items()}
    exact = statistics.quantiles(times, n=100)
    for name, place in (("p50", 49), ("p90", 89), ("p99", 98)):
        assert found["microseconds"][name] == pytest.approx(exact[place], rel=0.025)


@pytest.mark.parametrize("step", [0.1, 1, 17, 600, 7_200, 500_000])
def test_volume_is_in_few_intervals_without_gaps(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it took, and however often intervals had to be made longer; no row is missing."""
    monkeypatch.setattr(analysis, "_MOST_GROUPS", 1_000)
    times = [T + timedelta(seconds=step * number) for number in range(4_000) if not 1_000 < number < 1_900]
    rows = [{"time": time} for time in times]
    volume = added([(APPLICATION, rows[begin : begin + 500]) for begin in range(0, len(rows), 500)]).volume()
    starts = [start for start, _ in volume.bars]
    assert len(starts) <= 25
    assert starts == list(range(starts[0], starts[-1] + 1, volume.interval))
    counted = Counter(int(time.timestamp()) // volume.interval * volume.interval for time in times)
    assert {start: rows for start, rows in volume.bars if rows} == counted


def test_groups_are_limited_and_what_is_left_out_is_said() -> None:
    """The most frequent are kept."""
    counts = GroupedCounts(("word",), most=100)
    for begin in range(0, 60_000, 1_000):
        counts.add(pa.table({"word": ["often"] * 10 + [str(number) for number in range(begin, begin + 1_000)]}))
    found = counts.table()
    assert found is not None
    assert found.num_rows <= 100
    assert found.slice(0, 1).to_pylist() == [{"word": "often", "count": 600}]
    assert counts.lost + sum(found["count"].to_pylist()) == 60_600


def kept(newest: NewestRows, messages: list[tuple[int, list[int]]]) -> list[str]:
    """Add messages, each with a time in Kafka and numbers of rows; return the numbers that are kept."""
    for timestamp, numbers in messages:
        rows = [{"time": T + timedelta(seconds=number), "service": str(number)} for number in numbers]
        newest.add(timestamp, APPLICATION, slim(table(APPLICATION, rows)))
    return [service for _, rows in newest.tables() for service in rows["service"].to_pylist()]


def test_only_the_newest_rows_are_kept() -> None:
    """Whatever the order in which messages arrive; in the oldest message, its newest rows."""
    messages = [(3, [5, 6]), (1, [0, 1]), (4, [7]), (2, [4, 2, 3])]
    assert kept(NewestRows(5, 9), messages) == ["3", "4", "5", "6", "7"]


def test_rows_are_certain_if_their_messages_are_certainly_the_newest() -> None:
    """Of a partition that was read from too late on, newer rows than those of others may be missing; empty messages count."""
    messages: list[tuple[int, list[int]]] = [(3, [5, 6]), (5, []), (4, [7])]
    for newest, certain in ((2, False), (3, True), (4, True)):
        rows = NewestRows(3, newest)
        kept(rows, messages)
        assert rows.is_certain is certain
    few = NewestRows(9, 3)
    kept(few, messages)
    assert not few.is_certain


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--since", "soon"], "--since soon: give an age"),
        (["--since", "0", "--last", "5"], "give --last or --since, not both"),
        (["--since", "2026-05-02", "--until", "2026-05-01"], "--until must be later than --since"),
    ],
)
def test_wrong_options_are_refused(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, before Kafka is asked for anything."""
    config = tmp_path / "config.yaml"
    config.write_text("kafka: {bootstrap_servers: '127.0.0.1:1'}\n")
    assert run(["analyze-logs", "--config", str(config), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_report_has_tables_and_bars(capsys: pytest.CaptureFixture[str]) -> None:
    """And says so if there is nothing, or if there are more services than fit."""
    show_report(LogSums(), 10)
    assert capsys.readouterr().out == "no rows\n"
    rows = [{"service": f"s{number:02}", "severity_number": 17, "body": "x", "time": T} for number in range(30)]
    slow = [{"service": "web", "response_time": 2_500_000, "http_response_status_code": 503, "time": T + timedelta(minutes=5)}]
    show_report(added([(APPLICATION, rows), (HTTP, slow)]), 3)
    text = capsys.readouterr().out
    assert "31 rows (30 application, 1 http) from 2026-05-01T12:00:00Z to 2026-05-01T12:05:00Z" in text
    assert "services, the first 20 of 31" in text
    assert "2026-05-01T12:00:00Z  30  " + bar(30, 30, is_plain=False) in text
    assert f"\n  web         503         1  {bar(1, 1, is_plain=False)}\n" in text
    assert text.count("  x") == 3


@pytest.mark.parametrize(("count", "text"), [(0, ""), (1, "▍"), (50, "█" * 20), (100, "█" * 40)])
def test_a_bar_is_as_long_as_its_share(count: int, text: str) -> None:
    """To an eighth of a character; something is never nothing."""
    assert bar(count, 100, is_plain=False) == text
    assert bar(count, 100, is_plain=True) == "#" * len(text)
