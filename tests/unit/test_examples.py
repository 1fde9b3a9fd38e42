"""The examples that the guides show are those that can be loaded."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from libs.common.rows.types.flows import FLOWS
from libs.common.settings import Settings, load_settings
from services.sinks.frame.registry import configured_sink
from tests.flows import Spot, row
from tests.row_samples import table

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = DOCS / "examples" / "several-sinks.yaml"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the example as a service reads it."""
    monkeypatch.delenv("BLOBTIDE_CONFIG", raising=False)
    return load_settings(EXAMPLE)


def test_the_guide_shows_the_example() -> None:
    """The page and the file are the same text."""
    page = (DOCS / "how-to" / "several-sinks.md").read_text()
    shown = re.search(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert shown[1] == EXAMPLE.read_text()


def test_every_sink_of_the_example_can_be_built(settings: Settings) -> None:
    """Each has its rows, its condition and its columns, as the page says."""
    sinks = {name: configured_sink(settings.sinks, name, settings) for name in settings.sinks}
    assert {name: sink.row_type.name for name, sink in sinks.items()} == {
        "archive": "flows",
        "denied-logins": "flows",
        "one-percent": "flows",
        "dead-letters": "dead_letters",
        "outside": "flows",
    }
    assert len({sink.settings.memory(sink.row_type) for sink in sinks.values()}) == len(sinks)


def test_the_conditions_of_the_example_select_what_they_are_for(settings: Settings) -> None:
    """Denied logins are denied flows to the ports for logins; traffic from outside is inbound from a public address."""
    rows = [
        row(Spot(0, 0, 0), action="deny", dst_port=22, src_ip="10.0.0.4", direction="outbound"),
        row(Spot(0, 0, 1), action="deny", dst_port=443, src_ip="203.0.113.9", direction="inbound"),
        row(Spot(0, 0, 2), action="allow", dst_port=22, src_ip="172.20.1.1", direction="inbound"),
    ]
    given: pa.Table = table(FLOWS, rows)
    for name, chosen in (("archive", [0, 1, 2]), ("denied-logins", [0]), ("outside", [1])):
        selected = configured_sink(settings.sinks, name).selection.select(given)
        assert selected.rows["tuple_index"].to_pylist() == chosen
