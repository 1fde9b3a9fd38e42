"""The summary sink: what is folded, what a session is, when minutes close, and how the table looks."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from libs.common.rows.types.flows import FLOWS
from services.sinks.kinds.summary.fold import MINUTE_MS, MOST, fold
from services.sinks.kinds.summary.sink import SummarySettings, SummarySink
from services.sinks.kinds.summary.table import Totals, size_text, summary_table
from tests.flows import START_MS, Spot, row, table
from tests.flows import part as flow_part

DATA = Path(__file__).resolve().parents[3] / "data"
TIMEOUT_MS = 120_000
CLIENT, SERVER = "10.0.0.4", "10.9.0.9"


def flow(number: int, seconds: float = 0.0, **changes: Any) -> dict[str, Any]:
    """Return one TCP flow of the client to the server's port 443, seen at the client; 10 bytes out, 100 in."""
    values: dict[str, Any] = {
        "time": START_MS + int(seconds * 1_000),
        "src_ip": CLIENT,
        "dst_ip": SERVER,
        "src_port": 50_000 + number,
        "dst_port": 443,
        "protocol": 6,
        "direction": "outbound",
        "action": "allow",
        "state": "continuing",
        "packets_sent": 1,
        "bytes_sent": 10,
        "packets_received": 2,
        "bytes_received": 100,
    }
    return row(Spot(0, number, 0), **(values | changes))


def minutes(*flows: dict[str, Any]) -> list[dict[str, Any]]:
    """Fold flows and return the sums."""
    folded = fold(table(flows), TIMEOUT_MS).minutes
    return [{"minute": minute, **sums} for minute, of_minute in folded for sums in of_minute.to_pylist()]


def test_both_ways_of_a_conversation_are_one_row() -> None:
    """Client ports are folded away; out is what left the side that logged, in what came to it."""
    (outbound,) = minutes(flow(0), flow(1), flow(2, bytes_sent=None, packets_sent=None))
    assert (outbound["local_ip"], outbound["remote_ip"]) == (CLIENT, SERVER)
    assert (outbound["service_port"], outbound["flows"]) == (443, 3)
    assert (outbound["bytes_out"], outbound["bytes_in"]) == (20, 300)
    assert (outbound["packets_out"], outbound["packets_in"]) == (2, 6)


def test_inbound_flips() -> None:
    """The same conversation logged at the server has the server as its local side and in and out exchanged."""
    (inbound,) = minutes(flow(0, direction="inbound"))
    assert (inbound["local_ip"], inbound["remote_ip"], inbound["service_port"]) == (SERVER, CLIENT, 443)
    assert (inbound["bytes_in"], inbound["bytes_out"]) == (10, 100)


def test_sums_are_by_minute_and_denied_and_begun_flows_are_counted() -> None:
    """A flow counts in the minute of its own time; denied flows and allowed TCP begins are counted beside."""
    sums = minutes(flow(0, 59.9, state="begin"), flow(1, 60.0, action="deny", state="begin"))
    assert [(s["minute"] - START_MS, s["begins"], s["denied"]) for s in sums] == [(0, 1, 0), (MINUTE_MS, 0, 1)]


@pytest.mark.parametrize(
    ("flows", "in_session"),
    [
        ([flow(0), flow(1, 600)], 2),  # TCP does not expire
        ([flow(0), flow(1, state="begin"), flow(2)], 2),  # but starts anew at begin
        ([flow(0), flow(1, state="begin", action="deny")], 2),  # an NSG deny says begin, but nothing began
        ([flow(0), flow(1, state="deny", action="deny")], 2),
        ([flow(0, protocol=17), flow(1, 120, protocol=17)], 2),  # at the timeout
        ([flow(0, protocol=17), flow(1, 120.001, protocol=17)], 1),  # above it
        ([flow(0, protocol=17, state="begin"), flow(1, 1, protocol=17, state="begin")], 2),  # a begin of UDP is none
    ],
)
@pytest.mark.parametrize("batch", [1, 9])
def test_a_session_starts_anew(tmp_path: Path, flows: list[dict[str, Any]], in_session: int, batch: int) -> None:
    """TCP sessions start anew at an allowed begin, others after silence, within a batch and between batches; totals go on."""
    out = io.StringIO()
    sink = SummarySink(SummarySettings(directory=tmp_path), FLOWS, out, clock=lambda: START_MS / 1_000 + 900)
    sink.open()
    for at in range(0, len(flows), batch):
        sink.write([flow_part(0, flows[at : at + batch])])
    sink.close()
    cells = out.getvalue().splitlines()[3].split()
    assert cells[4:6] == [str(100 * len(flows)), "B"]
    assert cells[9:11] == [str(100 * in_session), "B"]


def test_absurd_counters_cannot_overflow(tmp_path: Path) -> None:
    """Counters at the end of the integers, over many batches, leave sums at their largest, and the sink alive."""
    world = World(tmp_path)
    for n in range(3):
        world.write(*(flow(m, bytes_sent=2**63 - 1, state="end") for m in range(n * 9, n * 9 + 9)))
    world.now += 200
    world.sink.tick()
    (line,) = (tmp_path / "summary-p000-00000001.ndjson").read_text().splitlines() if world.files() else []
    assert json.loads(line)["bytes_out"] == 27 * MOST
    world.sink.close()


class World:
    """A summary sink with a clock that is moved by hand."""

    def __init__(self, directory: Path, out: io.StringIO | None = None, **options: Any) -> None:
        self.now = START_MS / 1_000 + 60
        self.directory = directory
        settings = {"directory": directory, "print_seconds": 0, "rotate_seconds": 1, "lateness_seconds": 120, **options}
        self.sink = SummarySink(SummarySettings.model_validate(settings), FLOWS, out, clock=lambda: self.now)
        self.sink.open()

    def write(self, *flows: dict[str, Any]) -> None:
        """Write flows, and let the clock be at the last of them."""
        self.now = max(self.now, flows[-1]["time"] / 1_000)
        self.sink.write([flow_part(0, flows)])

    def files(self) -> list[tuple[str, int, int]]:
        """Complete the files; return kind, minute and flows of each row."""
        self.now += 1
        self.sink.tick()
        rows = [json.loads(line) for file in sorted(self.directory.glob("*.ndjson")) for line in file.read_text().splitlines()]
        return [(r["kind"], int(r["minute"][14:16]), r["flows"]) for r in rows]


def test_minutes_close_by_event_time_and_late_flows_become_corrections(tmp_path: Path) -> None:
    """A minute is written once, when a flow later than its lateness was seen; what comes after goes into a correction."""
    world = World(tmp_path)
    world.write(flow(0, 10), flow(1, 179.9))
    assert world.files() == []
    world.write(flow(2, 180))
    assert world.files() == [("minute", 0, 1)]
    world.write(flow(3, 20), flow(4, 240))
    assert world.files() == [("minute", 0, 1), ("correction", 0, 1)]
    world.sink.close()


def test_silence_closes_all_minutes(tmp_path: Path) -> None:
    """When nothing comes for the lateness, open minutes are written."""
    world = World(tmp_path)
    world.write(flow(0, 10), flow(1, 70))
    world.now += 120
    world.sink.tick()
    assert world.files() == [("minute", 0, 1), ("minute", 1, 1)]
    world.sink.close()


def test_a_flow_from_the_future_does_not_close_minutes(tmp_path: Path) -> None:
    """A broken clock in one log does not make everybody else late."""
    world = World(tmp_path)
    world.now = START_MS / 1_000 + 60
    world.sink.write([flow_part(0, [flow(0, 0), flow(1, 1e7)])])
    world.write(flow(2, 10))
    assert world.files() == []
    world.sink.close()


def test_a_flow_from_the_future_does_not_close_the_minutes_before_it(tmp_path: Path) -> None:
    """After a silence that wrote it as a correction, minutes close in time as before, and sockets are forgotten."""
    out = io.StringIO()
    world = World(tmp_path, forget_minutes=10, print_seconds=1, out=out)
    world.write(flow(0, 0), flow(1, 1e7, dst_port=1), flow(2, 10))
    world.now += 120
    world.sink.tick()
    world.write(flow(3, 800, dst_port=2))
    world.write(flow(4, 1_000, dst_port=3))
    (future,) = [content for content in world.files() if content[0] == "correction"]
    assert future[2] == 1
    assert [content for content in world.files() if content[0] == "minute"] == [("minute", 0, 2), ("minute", 13, 1)]
    world.sink.close()
    assert "late" not in out.getvalue()
    assert "TCP/443" not in out.getvalue().split("SERVICE")[-1]


def test_the_table_counts_what_was_counted_before_partitions_moved(tmp_path: Path) -> None:
    """The total only grows: over a rebalance and a restart, before anything comes for most partitions again."""
    out = io.StringIO()
    before = World(tmp_path, print_seconds=1)
    for shard in range(3):
        before.sink.write([flow_part(shard, [row(Spot(shard, 0, 0))])])
    before.sink.release([0, 1])
    before.sink.close()
    world = World(tmp_path, print_seconds=1, out=out)
    world.sink.write([flow_part(1, [row(Spot(1, 1, 0))])])
    world.now += 2
    world.sink.tick()
    assert "4 flows until" in out.getvalue()
    other = World(tmp_path, print_seconds=1, out=out)
    other.sink.write([flow_part(2, [row(Spot(2, 1, 0))])])
    other.sink.close()
    assert "3 flows until" in out.getvalue(), "what another process counts is shown there"
    world.sink.close()


def test_a_write_is_a_few_statements_whatever_it_adds_up(tmp_path: Path) -> None:
    """The database is not told of each socket: a thousand of them are as few statements as one."""
    world = World(tmp_path)
    counts = []
    for sockets in (1, 1_000):
        statements: list[str] = []
        with world.sink._shards.writing(0) as store:
            store.database.set_trace_callback(statements.append)
        world.write(*(flow(sockets + port, dst_port=port) for port in range(sockets)))
        counts.append(len(statements))
    world.sink.close()
    assert max(counts) < 30


def test_a_state_of_the_version_before_is_taken_over(tmp_path: Path) -> None:
    """Sums, sockets, sessions and positions that an older version has left count on, and nothing of them counts twice."""
    home = tmp_path / ".blobtide" / "p000"
    home.mkdir(parents=True)
    (tmp_path / ".blobtide" / "kind").write_text("summary")
    with closing(sqlite3.connect(home / "state.db")) as database:
        database.executescript((DATA / "summary_state_rows.sql").read_text())
    out = io.StringIO()
    world = World(tmp_path, out=out, print_seconds=1)
    outcome = world.sink.write([flow_part(0, [flow(4, 75, dst_port=53, protocol=17, direction="inbound"), flow(5, 80)])])
    assert (outcome.written, outcome.already_there) == (1, 1)
    world.now += 200
    world.sink.tick()
    files = world.files()
    world.sink.close()
    assert [sum(count for _, minute, count in files if minute == one) for one in (0, 1)] == [3, 3]
    shown = out.getvalue().splitlines()
    assert "6 flows until" in shown[1]
    (https,) = [line.split() for line in shown if line.startswith("TCP/443")]
    assert https[4:6] == ["400", "B"]
    assert https[9:11] == ["300", "B"], "the session that an older version knew goes on"


def test_what_an_older_version_counted_after_a_step_back_is_added(tmp_path: Path) -> None:
    """Whoever goes back to an older version and forth again loses no sum of either."""
    world = World(tmp_path)
    world.write(flow(0, 20, bytes_received=1), flow(1, 70))
    world.sink.close()
    lines = (DATA / "summary_state_rows.sql").read_text().splitlines()
    with closing(sqlite3.connect(tmp_path / ".blobtide" / "p000" / "state.db")) as database:
        database.executescript("\n".join(line for line in lines if " open_minute " in line or '"open_minute"' in line))
        database.executescript("\n".join(line for line in lines if " socket " in line or '"socket"' in line))
    out = io.StringIO()
    world = World(tmp_path, out=out, print_seconds=1)
    world.now += 200
    world.write(flow(2, 80))
    world.now += 200
    world.sink.tick()
    files = world.files()
    world.sink.close()
    assert [sum(count for _, minute, count in files if minute == one) for one in (0, 1)] == [1 + 3, 2 + 2]
    (https,) = [line.split() for line in out.getvalue().splitlines() if line.startswith("TCP/443")]
    assert https[4] == str(300 + 201), "bytes that came in, of both versions"


def test_sockets_are_bounded_while_too_many_sums_are_open(tmp_path: Path) -> None:
    """When every write closes all minutes early, the most silent sockets still leave."""
    out = io.StringIO()
    world = World(tmp_path, max_open_rows=3, max_sockets=2, print_seconds=1, out=out)
    for at in range(3):
        world.write(*(flow(n, at, dst_port=n) for n in range(at * 4, at * 4 + 4)))
    world.sink.close()
    assert len(out.getvalue().splitlines()[3:]) <= 2


def test_open_sums_are_bounded(tmp_path: Path) -> None:
    """Above max_open_rows all minutes close early, and nothing is lost."""
    world = World(tmp_path, max_open_rows=3)
    world.write(*(flow(n, dst_port=n) for n in range(3)))
    assert world.files() == []
    world.write(flow(3, dst_port=3))
    assert len(world.files()) == 4
    world.sink.close()


def test_silent_sockets_leave_the_table(tmp_path: Path) -> None:
    """Sockets are bounded: those without flows for forget_minutes leave, and of too many the most silent."""
    out = io.StringIO()
    sink = SummarySink(
        SummarySettings(directory=tmp_path, forget_minutes=10, max_sockets=2),
        FLOWS,
        out,
        clock=lambda: START_MS / 1_000 + 9_000,
    )
    sink.open()
    sink.write([flow_part(0, [flow(0, 0, dst_port=1), *(flow(n, 1_000 + n, dst_port=n) for n in (2, 3, 4))])])
    sink.close()
    assert [line.split()[0] for line in out.getvalue().splitlines()[3:]] == ["TCP/4", "TCP/3"]


TALKER = {
    "protocol": 6, "local_ip": "2001:db8:aaaa:bbbb:cccc:dddd:eeee:1", "remote_ip": SERVER, "service_port": 443,
    "direction": "inbound", "flows": 1_234, "bytes_in": 5, "bytes_out": 6, "total_bytes_in": 1_250_000,
    "total_bytes_out": 999, "since": START_MS, "last": START_MS,
}  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_fits_the_terminal(width: int) -> None:
    """Narrow terminals lose columns from the right, then the ends of addresses, but not the sums."""
    lines = summary_table(Totals(1_234, 5, START_MS), [TALKER], width).splitlines()
    assert lines[0] == "1,234 flows until 2026-05-01T12:00:00Z, 5 late; top 1 by bytes"
    assert max(len(line) for line in lines[1:]) <= width
    assert "1.2 MB" in lines[2]
    assert ("SESSION OUT" in lines[1]) == (width == 200)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (12_345, "12 kB"), (10**16, "10 PB"), (10**19, "10000 PB")],
)
def test_sizes_are_short(count: int, text: str) -> None:
    """Sizes have a unit and few digits."""
    assert size_text(count) == text
