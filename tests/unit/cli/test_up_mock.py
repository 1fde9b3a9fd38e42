"""What `blobtide up --demo --mock` starts, writes and shows of the collector and the recorder."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import msgspec
import pytest

from libs.common.kafka.readers.follow import Follower, Newest
from libs.common.kafka.records import Inbound
from libs.common.messages.resource_changes import CHANGED, CREATED, DELETED, PathChange, ResourceChange, encode_change
from libs.common.settings import Settings, load_settings
from libs.common.settings.kafka import KafkaSettings
from libs.local.ports import LOOPBACK, is_free
from services.cli.up import command as up
from services.cli.up.hints import collect_line, progress_line
from services.cli.up.mock import LocalMock, MockApi, MockPlace
from services.cli.up.news import MOST_LINES, ResourceNews
from services.cli.up.settings import refuse_what_cannot_run, with_own, write_settings
from tests.unit.cli.test_commands import run
from tests.unit.cli.test_up import OWN, loaded_by, options, programs

PLACE = MockPlace("http://127.0.0.1:9", ("11111111-1111-1111-1111-111111111111",), MockApi(8, "of-the-collectors-api"))
MOCKED = replace(OWN, storage="UseDevelopmentStorage=true", mock=PLACE)
NEW = ResourceChange("/subscriptions/s/providers/p/machines/vm-0", 1, "p/machines", "2024", CREATED, "request", 0, name="vm-0")


def asked(tmp_path: Path, config: Path | None = None) -> up.UpOptions:
    """Return what the command line would say."""
    return up._without_default_file(replace(options(tmp_path, demo=True, config=config), mock=True))


def test_a_collector_and_a_recorder_ask_the_mock_and_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have schedules and sources that lead there; the collector signs in there, whatever identity the operator has."""
    monkeypatch.setenv("AZURE_CLIENT_ID", "of-the-operator")
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "canary")
    started = programs(asked(tmp_path), MOCKED)
    ours = ["collector", "recorder"]
    sinks = ["sink-file", "sink-summary", "sink-resources", "sink-resource_changes", "sink-results", "sink-archive"]
    assert list(started) == ["blob-monitor", "ingest", "parser", *ours, *sinks, "demo"]
    environment = started["collector"].env
    assert environment["IDENTITY_ENDPOINT"].startswith(f"{PLACE.url}/")
    assert not [name for name in environment if name.startswith("AZURE_")]
    settings = loaded_by(started["collector"], monkeypatch)
    assert settings.collector.management_url == PLACE.url
    assert {schedule.subscriptions for schedule in settings.collector.schedules} == {PLACE.subscriptions}
    sources = loaded_by(started["recorder"], monkeypatch).recorder.sources
    assert {source.name: source.url for source in sources} == {"flowinfo": PLACE.url, "graphinfo": PLACE.url}


def test_settings_keep_their_own_sources_and_sinks(tmp_path: Path) -> None:
    """A source of the same name stays what it is; a collector that is configured does not run against Azure as well."""
    config = tmp_path / "my.yaml"
    config.write_text(
        "recorder: {sources: [{name: flowinfo, url: 'http://127.0.0.1:7'}]}\nsinks: {file: {directory: /tmp/x}}\n"
        "collector: {schedules: [{name: mine, templates: [vms], subscriptions: [a]}]}\n"
    )
    settings = with_own(load_settings(config), tmp_path, MOCKED)
    assert [(source.name, source.url) for source in settings.recorder.sources] == [
        ("flowinfo", "http://127.0.0.1:7"),
        ("graphinfo", PLACE.url),
    ]
    assert list(settings.sinks) == ["file"]
    assert "mine" not in [schedule.name for schedule in settings.collector.schedules]


def test_what_the_mock_needs_can_be_built(tmp_path: Path) -> None:
    """`up` refuses nothing of it before anything runs."""
    refuse_what_cannot_run(Settings(), tmp_path, up._expected(asked(tmp_path), Settings()))


def test_a_configured_collector_runs_without_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its schedules are reason enough for `up`; it may sign in to the cloud, and no services for blobs run beside it."""
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "canary")
    config = tmp_path / "my.yaml"
    config.write_text("collector: {schedules: [{name: mine, templates: [vms], subscriptions: [a]}]}\n")
    started = programs(options(tmp_path, demo=False, config=config))
    assert list(started) == [
        "collector",
        "sink-file",
        "sink-summary",
        "sink-resources",
        "sink-resource_changes",
        "sink-results",
    ]
    assert "canary" in started["collector"].env.values()


def test_the_mock_requires_the_demo(tmp_path: Path) -> None:
    """Alone it would have no effect."""
    done = run("up", "--mock", "--data-dir", str(tmp_path / "data"))
    assert (done.returncode, done.stderr) == (2, "blobtide up: --mock requires --demo. See `blobtide up --help`.\n")


def test_the_line_that_collects_reaches_the_kafka_of_this_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names a file that says where Kafka is, what topics are called, and nothing secret."""
    monkeypatch.setattr(sys, "argv", ["blobtide", "up"])
    login = {"security_protocol": "SASL_SSL", "sasl_username": "me", "sasl_password": "canary"}
    kafka = {**login, "group_prefix": "mine"}
    settings = Settings.model_validate({"kafka": kafka, "topics": {"collection_requests": "Asked"}})
    file = write_settings(settings, tmp_path, "127.0.0.1:9")
    assert collect_line(file, "s").endswith(f"collect --template vms --subscription s --config {file.absolute()}")
    read = load_settings(file)
    assert (read.kafka.bootstrap_servers, read.kafka.group_prefix) == ("127.0.0.1:9", "mine")
    assert read.topics.collection_requests == "Asked"
    assert "canary" not in file.read_text()


def test_the_mock_is_a_server_like_the_others(tmp_path: Path) -> None:
    """It is ready when it answers, with the subscriptions that it says it has, and its port is free when it has stopped."""
    server = LocalMock(tmp_path, None, nics=1)
    server.start()
    try:
        with closing(HTTPConnection(LOOPBACK, server.port, timeout=10)) as connection:
            connection.request("GET", "/ndt/get_graph_data")
            assert len(msgspec.json.decode(connection.getresponse().read())["nodes"]) == 2, "a switch and a host"
    finally:
        server.stop()
    assert is_free(server.port)


def test_the_line_that_asks_for_progress_does_not_show_the_token(tmp_path: Path) -> None:
    """It is in a file that only its owner can read; the collector has it in its settings."""
    line = progress_line(PLACE.api, tmp_path)
    file = tmp_path / "collector-token"
    assert line == f'curl --header "Authorization: Bearer $(cat {file})" http://127.0.0.1:8/collections/ID'
    assert (file.read_text(), file.stat().st_mode & 0o077) == (PLACE.api.token, 0)
    api = with_own(Settings(), tmp_path, MOCKED).collector.api
    assert api is not None
    assert (api.read_token(), api.host, api.port) == (PLACE.api.token, "127.0.0.1", 8)


def test_what_is_set_for_all_of_azure_makes_no_collector(tmp_path: Path) -> None:
    """Settings of the cloud, which the collector would use as well, are no reason to run one."""
    config = tmp_path / "my.yaml"
    config.write_text("azure: {cloud: china}\nrecorder: {sources: [{name: a, url: 'http://127.0.0.1:7'}]}\n")
    assert list(programs(options(tmp_path, demo=False, config=config))) == [
        "recorder",
        "sink-file",
        "sink-summary",
        "sink-archive",
    ]


class _Changes(Follower):
    """A topic in which these changes appear, in one poll each."""

    def __init__(self, *polls: list[ResourceChange]) -> None:
        super().__init__(KafkaSettings(), ("changes",), Newest(0))
        self._polls = list(polls)

    def poll(self, seconds: float) -> list[Inbound]:
        """Return the next ones, and something that is none."""
        del seconds
        values = [encode_change(change) for change in self._polls.pop(0)]
        return [Inbound("changes", 0, 0, 0, None, value, ()) for value in (*values, None, b"{")]


def test_what_has_become_of_resources_is_shown() -> None:
    """Few have a line each, and what has changed in them; many have one together; what cannot be read has none."""
    paths = (PathChange("changed", "/tags/owner", '"a"', '"b"'), PathChange("added", "/tags/x", None, f'"{"x" * 80}"'))
    changed = msgspec.structs.replace(NEW, change=CHANGED, paths=(*paths, paths[0]))
    gone = msgspec.structs.replace(NEW, change=DELETED, name=None)
    many = [msgspec.structs.replace(NEW, name=f"vm-{number}") for number in range(MOST_LINES)]
    news = ResourceNews(_Changes([NEW, changed, gone], [], [*many, changed]))
    assert news.lines() == [
        "new      vm-0 (p/machines)",
        "changed  vm-0 (p/machines)",
        '           /tags/owner: "a" -> "b"',
        f'           /tags/x: nothing -> "{"x" * 56}...',
        "           and 1 more",
        "gone     vm-0 (p/machines)",
    ]
    assert news.lines() == []
    assert news.lines() == [f"new      {MOST_LINES} resources: {MOST_LINES} machines", "changed  1 resources: 1 machines"]
