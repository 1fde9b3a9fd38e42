"""What `blobtide up` shows."""

from __future__ import annotations

import itertools
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pytest

from libs.common.kafka.readers.follow import Follower, Newest
from libs.common.kafka.records import Inbound
from libs.common.process.health import NO_PARTITIONS
from libs.common.rows.types.flows import FLOW_SCHEMA, FLOWS
from libs.common.rows.wire import encode_rows
from libs.common.settings.kafka import KafkaSettings
from services.cli.probe import Families
from services.cli.up import view as up_view
from services.cli.up.supervisor import Child, Program, ProgramState, Supervisor
from services.cli.up.view import REFRESH_SECONDS, SAMPLE_LINES, Count, View, fitted
from tests.flows import rows


def test_a_count_goes_on_when_its_process_starts_anew() -> None:
    """A restarted service counts from zero again; what is shown neither falls nor stands still until it has caught up."""
    count = Count()
    for value, life in ((3, 0), (10, 0), (2, 1), (5, 1), (50, 2)):
        count.seen(value, life)
    assert count.total == 65


def test_the_counts_of_all_programs_are_shown_whatever_they_wait_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead letters of every service are added up, and a service that is not ready again after its restart counts as well."""
    letters = {"blob-monitor": 1, "ingest": 2, "parser": 4, "sink-a": 8}
    children = [
        Child(Program(name, (), {}, tmp_path / name, health_port=number), state=ProgramState.STARTING, restarts=1)
        for name, number in letters.items()
    ]
    shown: Families = {"blobtide_sink_rows_total": [({"sink": "a", "outcome": "written"}, 1_000.0)]}
    monkeypatch.setattr(
        up_view, "metrics_of", lambda number: shown | {"blobtide_kafka_dead_letters_total": [({}, float(number))]}
    )
    monkeypatch.setattr(up_view, "why_not_ready", lambda _: "waiting for storage: prod.eu")
    out, clock = StringIO(), itertools.count(step=int(REFRESH_SECONDS))
    view, supervisor = View(out, clock=lambda: float(next(clock))), Supervisor([], children=children)
    view.refresh(supervisor)
    view.refresh(supervisor)
    children[-1].restarts += 1
    view.refresh(supervisor)
    lines = [line for line in out.getvalue().splitlines() if "dead letters" in line]
    assert "tuples parsed 0   dead letters 15   a 1,000 rows" in lines[0]
    assert "dead letters 23   a 2,000 rows" in lines[-1]


def test_rows_that_a_sink_leaves_out_are_shown_beside_those_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sets a condition sees how many rows it left out; a sink that leaves nothing out has no such number."""
    shown: dict[int, Families] = {
        1: {"blobtide_sink_rows_total": [({"outcome": "written"}, 26.0), ({"outcome": "filtered"}, 2_500.0)]},
        2: {"blobtide_sink_rows_total": [({"outcome": "written"}, 2_526.0), ({"outcome": "filtered"}, 0.0)]},
    }
    children = [
        Child(Program(f"sink-{name}", (), {}, tmp_path / name, health_port=port), state=ProgramState.READY)
        for name, port in (("denied", 1), ("all", 2))
    ]
    monkeypatch.setattr(up_view, "metrics_of", shown.get)
    monkeypatch.setattr(up_view, "why_not_ready", lambda _: None)
    out = StringIO()
    View(out, clock=lambda: REFRESH_SECONDS).refresh(Supervisor([], children=children))
    assert out.getvalue().rstrip().endswith("denied 26 rows (2,500 filtered)   all 2,526 rows")


def test_output_of_several_sinks_says_whose_it_is(tmp_path: Path) -> None:
    """The output of one sink stands alone; where another one's follows, its name stands before it."""
    children = [
        Child(Program(f"sink-{name}", (), {}, tmp_path / "log", relay=tmp_path / name), state=ProgramState.READY)
        for name in ("one", "two")
    ]
    one, two = (tmp_path / name for name in ("one", "two"))
    out, supervisor = StringIO(), Supervisor([], children=children)
    view = View(out, clock=lambda: 0.0)
    for file, text in ((one, "1\n"), (one, "2\n"), (two, "3\n"), (two, "4\n"), (one, "5\n")):
        with file.open("a") as stream:
            stream.write(text)
        view.refresh(supervisor)
    assert out.getvalue().splitlines() == ["1", "2", "sink-two:", "3", "4", "sink-one:", "5"]


def test_why_partitions_are_missing_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a server is away the line about it is enough; what waits for something else is shown beside it."""
    reasons = {1: NO_PARTITIONS, 2: "a batch is waiting for its destination: 404"}
    children = [
        Child(Program(f"sink-{port}", (), {}, tmp_path / "log", health_port=port), state=ProgramState.READY) for port in reasons
    ]
    monkeypatch.setattr(up_view, "metrics_of", lambda _: {})
    monkeypatch.setattr(up_view, "why_not_ready", reasons.get)
    out, clock = StringIO(), itertools.count(step=int(REFRESH_SECONDS))
    view, supervisor = View(out, clock=lambda: float(next(clock))), Supervisor([], children=children)
    view._troubles.clock = view.clock
    for _ in range(9):
        view.refresh(supervisor, [("kafka", "it ended")])
    assert "kafka          waiting   it ended" in out.getvalue()
    assert "destination: 404" in out.getvalue()
    assert NO_PARTITIONS not in out.getvalue()
    for _ in range(2):
        view.refresh(supervisor)
    assert NO_PARTITIONS in out.getvalue()


def test_a_flow_line_fits_the_terminal() -> None:
    """A narrow terminal costs the alignment, the date and the end of the line; a wide one or a file costs nothing."""
    line = "2026-05-01T12:00:00.000Z inbound  allow begin TCP 10.0.0.1:1      -> 10.0.0.2:443     sent 1p/60B"
    assert fitted(line, None) == fitted(line, 200) == line
    assert fitted(line, 80) == "12:00:00.000Z inbound allow begin TCP 10.0.0.1:1 -> 10.0.0.2:443 sent 1p/60B"
    assert fitted(line, 40) == "12:00:00.000Z inbound allow begin TCP "


class _Topic(Follower):
    """A topic whose newest record is this one."""

    def __init__(self, record: Inbound) -> None:
        super().__init__(KafkaSettings(), ("flows",), Newest(0))
        self._record = record

    def poll(self, seconds: float) -> list[Inbound]:
        """Return the record."""
        del seconds
        return [self._record]


@pytest.mark.parametrize(("count", "shown"), [(0, 0), (1, 1), (3, 3), (SAMPLE_LINES + 2, SAMPLE_LINES)])
def test_the_last_flows_of_the_newest_batch_are_shown(count: int, shown: int) -> None:
    """At most five flows of the newest batch are shown, and all of them when it has fewer."""
    batch = pa.RecordBatch.from_pylist(rows(blobs=1, records=1, tuples=count), schema=FLOW_SCHEMA)
    out = StringIO()
    View(out, sample=_Topic(Inbound("flows", 0, 0, 0, None, encode_rows(FLOWS, batch), ())))._show_sample()
    assert len(out.getvalue().splitlines()) == shown


def test_the_end_says_where_the_results_are(tmp_path: Path) -> None:
    """The last lines name the files, since the first ones have long left the screen."""
    out = StringIO()
    view = View(out)
    view.started({"file": "/data/flows"})
    view.stopped(tmp_path)
    assert out.getvalue().splitlines()[-2:] == [
        "sink file      wrote to /data/flows",
        f"stopped; data is kept in {tmp_path} for the next run; --fresh deletes it",
    ]


def test_places_of_results_stand_below_each_other() -> None:
    """However long a sink's name is, the places form a column."""
    out = StringIO()
    View(out).started({"file": "/data/flows", "refused-connections": "/data/denied"})
    assert [line.index("writes to") for line in out.getvalue().splitlines()] == [25, 25]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("BlobGone", "container logs of prod.eu does not exist: check `container`"),
        ("Refused", "container logs of prod.eu cannot be listed (access denied): check the login"),
        ("StorageRefused", "container logs of prod.eu cannot be listed (request rejected): check the account's address"),
        ("StorageUnavailable", "container logs of prod.eu is unreachable: check the account's name"),
        ("Unheard", "container logs of prod.eu cannot be listed (Unheard)"),
    ],
)
def test_storage_that_cannot_be_listed_is_shown(error: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second look on one line says where, what is wrong and what to do, as long as the monitor says that it is so."""
    labels = {"account": "prod.eu", "container": "logs", "error": error}
    trouble: Families = {"blobtide_blob_monitor_storage_trouble": [(labels, 1.0), (labels | {"container": "more"}, 1.0)]}
    answers: list[Families] = [trouble, {}, trouble, trouble, trouble, {}]
    monkeypatch.setattr(up_view, "metrics_of", lambda _: answers.pop(0))
    monkeypatch.setattr(up_view, "why_not_ready", lambda _: None)
    program = Program("blob-monitor", (), {}, tmp_path / "blob-monitor.log", health_port=1)
    supervisor = Supervisor([program], children=[Child(program, state=ProgramState.READY)])
    out, clock = StringIO(), itertools.count(step=int(REFRESH_SECONDS))
    view = View(out, clock=lambda: float(next(clock)))
    while answers:
        view.refresh(supervisor)
    lines = [line for line in out.getvalue().splitlines() if "storage" in line]
    assert len(lines) == 2
    assert said in lines[0]
    assert lines[0].endswith(f"see {program.log} (and 1 more)")
