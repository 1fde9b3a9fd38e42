"""What `blobtide up` shows."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from services.cli.up_view import Count, View, fitted


def test_a_count_goes_on_when_its_process_starts_anew() -> None:
    """A restarted service counts from zero again; what is shown does not fall."""
    count = Count()
    for value in (3, 10, 2, 5):
        count.seen(value)
    assert count.total == 15


def test_a_flow_line_fits_the_terminal() -> None:
    """A narrow terminal costs the alignment, the date and the end of the line; a wide one or a file costs nothing."""
    line = "2026-05-01T12:00:00.000Z inbound  allow begin TCP 10.0.0.1:1      -> 10.0.0.2:443     sent 1p/60B"
    assert fitted(line, None) == fitted(line, 200) == line
    assert fitted(line, 80) == "12:00:00.000Z inbound allow begin TCP 10.0.0.1:1 -> 10.0.0.2:443 sent 1p/60B"
    assert fitted(line, 40) == "12:00:00.000Z inbound allow begin TCP "


def test_the_end_says_where_the_results_are(tmp_path: Path) -> None:
    """The last lines name the files, since the first ones have long left the screen."""
    out = StringIO()
    view = View(out)
    view.started({"file": "/data/flows"})
    view.stopped(tmp_path)
    assert out.getvalue().splitlines()[-2:] == [
        "sink file      wrote to /data/flows",
        f"stopped; the data stay in {tmp_path}: the next run goes on, --fresh forgets them",
    ]
