"""The examples that the guides show are those that can be loaded."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from libs.common.rows.types.flows import FLOWS
from libs.common.settings import Settings, load_settings
from libs.common.settings.selectors import PRESETS
from libs.common.settings.storage import NameLayout
from services.blob_monitor.main import places
from services.cli.config.checks import needed_services
from services.cli.main import run
from services.sinks.frame.registry import configured_sink
from tests.flows import Spot, row
from tests.row_samples import table

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = DOCS / "examples" / "several-sinks.yaml"
LOGS = DOCS / "examples" / "application-logs.yaml"
TUTORIAL = DOCS / "tutorial" / "collect-azure-configuration.md"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the example as a service reads it."""
    monkeypatch.delenv("BLOBTIDE_CONFIG", raising=False)
    return load_settings(EXAMPLE)


@pytest.mark.parametrize(
    ("page", "example"), [("several-sinks.md", EXAMPLE), ("follow-application-logs.md", LOGS)], ids=["sinks", "logs"]
)
def test_the_guide_shows_the_example(page: str, example: Path) -> None:
    """The page and the file are the same text."""
    shown = re.search(r"^```yaml\n(.*?)^```$", (DOCS / "how-to" / page).read_text(), re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert shown[1] == example.read_text()


def test_the_guide_shows_the_six_sinks() -> None:
    """Each is of another kind, and the page and the file are the same text."""
    text = (DOCS / "examples" / "six-sinks.yaml").read_text()
    assert f"```yaml\n{text}```" in (DOCS / "how-to" / "several-sinks.md").read_text()
    kinds = [options["kind"] for options in yaml.safe_load(text)["sinks"].values()]
    assert len(kinds) == len(set(kinds)) == 6


def test_the_example_of_application_logs_follows_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Presets, one of them changed, and a service of its own; the page names the presets as they are."""
    monkeypatch.delenv("BLOBTIDE_CONFIG", raising=False)
    (place,) = places(load_settings(LOGS))
    assert [territory.selector for territory in place.territories] == [
        "apache-proxy",
        "api",
        "backoffice",
        "zookeeper",
        "search",
    ]
    assert {territory.layout for territory in place.territories} == {NameLayout.DATED}
    taken = [
        place.territories[-1].rule_of(f"kubernetes/20260501.solr-{pod}_a_solr-0f.gz") is not None for pod in ("0", "test-0")
    ]
    assert taken == [True, False]
    rows = re.findall(
        r"^\| `([a-z-]+)` \| `(\.[^`]+)` \|", (DOCS / "how-to" / "follow-application-logs.md").read_text(), re.MULTILINE
    )
    assert dict(rows) == {name: preset["prefix"] for name, preset in PRESETS.items()}


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


def test_the_tutorial_of_the_collector_ends_with_settings_that_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`config check` finds nothing wrong with them, and `up` runs what they are for."""
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = re.findall(r"^```yaml\n(.*?)^```$", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
    assert len(shown) == 1
    file = tmp_path / "azure.yaml"
    file.write_text(shown[0])
    assert run(["config", "check", "--config", str(file)]) == 0
    assert needed_services(load_settings(file)) == ["collector"]
