"""`blobtide sinks` and `blobtide test-connection`."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from libs.common.errors import ConfigError, ServerUnreachable
from libs.common.settings.loader import load_settings
from libs.local.ports import free_port
from services.cli.main import blobtide
from services.cli.sinks import listing
from services.sinks.frame.kind import Kind, all_kinds
from services.sinks.frame.registry import configured_sink
from tests.answer_server import Reply, answering


def run(*words: str) -> Result:
    """Run `blobtide`; an error that it raises on purpose is in the result."""
    return CliRunner().invoke(blobtide, words)


def test_every_kind_is_listed_with_its_promise() -> None:
    """A line a kind, and one for the headings."""
    lines = run("sinks").stdout.splitlines()
    assert len(lines) == 1 + len(all_kinds())
    assert all(
        line.startswith(f"{name} ") and kind.promises[0] in line
        for line, (name, kind) in zip(lines[1:], all_kinds().items(), strict=True)
    )


@pytest.mark.parametrize("name", all_kinds())
def test_the_example_of_a_kind_is_a_settings_file_that_works(name: str, tmp_path: Path) -> None:
    """What `--example` prints goes to a file as it is, and the sink in it can be built."""
    file = tmp_path / "my.yaml"
    file.write_text(run("sinks", "--example", name).stdout)
    assert configured_sink(load_settings(file).sinks, name).name == name
    assert all_kinds()[name].example, "an example shows what has to be set"


def test_a_kind_is_described_by_its_rows_formats_settings_and_an_example() -> None:
    """Own settings come before those of every sink."""
    shown = run("sinks", "kafka").stdout
    taken = "flows, rollups, application, http, proxy, spans, snapshots, results, resources, resource_changes, dead_letters"
    assert f"rows       {taken}" in shown
    assert "formats    json, ecs, otel, csv, line, avro" in shown
    assert (
        yaml.safe_load("\n".join(run("sinks", "--example", "kafka").stdout.splitlines()))["sinks"]["kafka"]["topic"]
        == "rows.flows"
    )
    assert shown.index("\ndelivery ") < shown.index("\nwhere ")
    assert "transactional | idempotent" in shown


def test_a_kind_whose_library_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be said without its code is said."""
    kind = Kind(
        "rows at a far place",
        "nowhere:Sink",
        "nowhere:Settings",
        extra="far",
        library="no_such_library",
        example="url: far://x",
    )
    monkeypatch.setattr(listing, "find_kind", lambda _: kind)
    shown = run("sinks", "far").stdout
    assert "no: pip install 'blobtide[far]'" in shown
    assert "    url: far://x" in shown
    assert "Its settings are shown when its library is installed." in shown


def test_an_unknown_kind_is_refused_with_a_suggestion() -> None:
    """The message names the kinds there are."""
    error = run("sinks", "clickhose").exception
    assert isinstance(error, ConfigError)
    assert "did you mean clickhouse?" in str(error)
    assert run("sinks", "--example").exit_code == ConfigError.exit_code


def test_connections_are_tried_as_the_services_do(tmp_path: Path) -> None:
    """Each sink gets a line; the exit code is that of the first failure; without names, all are tried."""
    file = tmp_path / "my.yaml"
    away = f"redis://127.0.0.1:{free_port()}"
    file.write_text(
        yaml.safe_dump(
            {"sinks": {"here": {"kind": "file", "directory": str(tmp_path / "rows")}, "away": {"kind": "redis", "url": away}}}
        )
    )
    one = run("test-connection", "here", "--config", str(file))
    assert (one.exit_code, one.stdout[:9]) == (0, "ok  here:")
    both = run("test-connection", "--config", str(file))
    assert both.exit_code == ServerUnreachable.exit_code
    assert "ok  here:" in both.output
    assert "!!  away: " in both.output
    assert run("test-connection", "nothing", "--config", str(file)).exit_code == ConfigError.exit_code
    file.write_text("{}")
    assert isinstance(run("test-connection", "--config", str(file)).exception, ConfigError)


def test_sources_of_the_recorder_are_asked_once(tmp_path: Path) -> None:
    """Without names, too; one whose answer is no record fails, and so does one that gives none."""
    with answering() as server:
        server.say("/good", Reply(b"{}"))
        server.say("/html", Reply(b"<html>"))
        server.say("/ill", Reply(b"", 500))
        sources = [{"name": name, "url": server.url, "path": f"/{name}"} for name in ("good", "html", "ill")]
        file = tmp_path / "my.yaml"
        file.write_text(yaml.safe_dump({"recorder": {"sources": sources}}))
        for name, code, said in (
            ("good", 0, "ok  good: connected"),
            ("html", ConfigError.exit_code, "/html: the answer is no JSON"),
            ("ill", ServerUnreachable.exit_code, "/ill answers 500"),
        ):
            done = run("test-connection", name, "--config", str(file))
            assert (done.exit_code, said in done.output) == (code, True), done.output
        assert run("test-connection", "--config", str(file)).exit_code == ConfigError.exit_code
        assert [one.path for one in server.asked] == ["/good", "/html", "/ill"] * 2
