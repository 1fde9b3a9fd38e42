"""What `blobtide up` starts its programs with."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from io import StringIO
from pathlib import Path

import psutil
import pytest

from libs.common.errors import BlobtideError, ConfigError
from libs.common.process.service import Stop
from libs.common.settings import Settings, load_settings
from libs.common.settings.selectors import PRESETS
from libs.local.ports import LOOPBACK
from services.cli.up import command as up
from services.cli.up.handover import handed_over
from services.cli.up.hints import tail_line
from services.cli.up.ports import last_port, remember_port
from services.cli.up.settings import Own, refuse_what_cannot_run
from services.cli.up.supervisor import CRASH_LOOP, Program, Supervisor
from services.cli.up.view import View
from tests.unit.cli.test_commands import run

PLAINTEXT = "BLOBTIDE_KAFKA__SECURITY_PROTOCOL=PLAINTEXT"
SECONDS = 20.0
OWN = Own("127.0.0.1:9")
EARNEST = """
subscriptions:
  production:
    environments:
      eu: {storage: {account_name: logs, account_key: a2V5}, sources: [{container: insights-logs-flowlogflowevent}]}
sinks:
  elasticsearch: {hosts: ["https://search:9200"]}
"""


RECORDER = "recorder: {sources: [{name: links, url: 'http://127.0.0.1:9', bearer_token: of-the-recorder}]}\n"


def options(tmp_path: Path, *, demo: bool, config: Path | None) -> up.UpOptions:
    """Return what the command line would say."""
    return up.UpOptions(
        config=config,
        data_dir=tmp_path,
        demo=demo,
        mock=False,
        fresh=False,
        start_over=False,
        nics=1,
        pods=0,
        speed=60,
        seconds=None,
        kafka_port=None,
    )


def programs(asked: up.UpOptions, own: Own = OWN) -> dict[str, Program]:
    """Return what would be started, by name."""
    started = up._Up(asked, load_settings(asked.config), View(StringIO()))._programs(own)
    return {program.name: program for program in started}


def loaded_by(program: Program, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings as a program loads them: through a pipe."""
    assert program.settings is not None
    with monkeypatch.context() as patch, handed_over(program.settings) as descriptor:
        for name in [name for name in os.environ if name.startswith("BLOBTIDE_")]:
            patch.delenv(name)
        for name, value in program.env.items():
            patch.setenv(name, value)
        return load_settings(Path(f"/dev/fd/{descriptor}"))


@pytest.fixture
def earnest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put settings where they are found by default."""
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / ".blobtide" / "config.yaml"
    file.parent.mkdir()
    file.write_text(EARNEST)
    return file


def test_the_demo_leaves_the_default_settings_file_alone(
    earnest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --config, neither the accounts nor the destinations of ~/.blobtide/config.yaml take part in the demo."""
    del earnest
    asked = up._without_default_file(options(tmp_path, demo=True, config=None))
    started = programs(asked, replace(OWN, storage="UseDevelopmentStorage=true"))
    assert list(started) == ["blob-monitor", "ingest", "parser", "sink-file", "sink-summary", "demo"]
    for program in started.values():
        settings = loaded_by(program, monkeypatch)
        assert set(settings.subscriptions) <= {"demo"}
        assert set(settings.sinks) <= {"file", "summary"}


def test_a_demo_with_pods_writes_their_rows_to_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are a generator of their logs, an environment with all presets of selectors, and a sink for each row type."""
    asked = replace(up._without_default_file(options(tmp_path, demo=True, config=None)), pods=3)
    started = programs(asked, replace(OWN, storage="UseDevelopmentStorage=true", pods=True))
    sinks = ["sink-file", "sink-application", "sink-proxy", "sink-spans", "sink-summary"]
    assert list(started) == ["blob-monitor", "ingest", "parser", *sinks, "demo", "demo-pods"]
    argv = started["demo-pods"].argv
    assert argv[argv.index("--pods") + 1] == "3"
    settings = loaded_by(started["blob-monitor"], monkeypatch)
    (source,) = settings.subscriptions["demo"].environments["applications"].sources
    assert {selector.name for selector in source.selectors} == set(PRESETS)
    for name in ("application", "proxy", "spans"):
        assert loaded_by(started[f"sink-{name}"], monkeypatch).sinks[name]["rows"] == name


@pytest.mark.parametrize("demo", [True, False])
def test_each_program_gets_what_it_needs_of_a_named_settings_file_and_no_more(
    *, demo: bool, earnest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accounts go to what reads storage, sources to the recorder, the options of a sink to that sink, the rest to all."""
    named = earnest.rename(tmp_path / "my.yaml")
    named.write_text(named.read_text() + "  redis: {url: redis://:secret@r}\nlog: {level: debug}\n" + RECORDER)
    asked = up._without_default_file(options(tmp_path, demo=demo, config=named))
    found = {}
    for name, program in programs(asked, replace(OWN, storage="UseDevelopmentStorage=true" if demo else None)).items():
        settings = loaded_by(program, monkeypatch)
        found[name] = (list(settings.subscriptions), list(settings.sinks))
        assert [source.name for source in settings.recorder.sources] == (["links"] if name == "recorder" else [])
        assert settings.log.level == "debug"
        assert settings.kafka.bootstrap_servers == OWN.bootstrap_servers
        assert program.health_port is None or settings.http.port == program.health_port
    accounts = ["production", "demo"] if demo else ["production"]
    assert found == {
        "blob-monitor": (accounts, []),
        "ingest": (accounts, []),
        "parser": ([], []),
        "recorder": ([], []),
        "sink-elasticsearch": ([], ["elasticsearch"]),
        "sink-redis": ([], ["redis"]),
    } | ({"demo": (["demo"], [])} if demo else {})


def test_sources_of_the_recorder_are_reason_enough(tmp_path: Path) -> None:
    """Without storage accounts, nothing that reads blobs runs; what sources answer goes to an archive unless told otherwise."""
    config = tmp_path / "my.yaml"
    config.write_text(RECORDER)
    asked = options(tmp_path, demo=False, config=config)
    refuse_what_cannot_run(load_settings(config), tmp_path, OWN)
    assert list(programs(asked)) == ["recorder", "sink-file", "sink-summary", "sink-archive"]


def test_settings_from_variables_reach_the_programs(earnest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operator's own variables say is what a program loads, though it is not given the variables."""
    monkeypatch.setenv("BLOBTIDE_SUBSCRIPTIONS__PRODUCTION__ENVIRONMENTS__EU__STORAGE__ACCOUNT_KEY", "bmV3")
    monkeypatch.setenv("BLOBTIDE_SINKS__ELASTICSEARCH__PASSWORD", "of-the-sink")
    monkeypatch.setenv("BLOBTIDE_MONITOR__DATE_RANGE__SPECIFIC_DATE", "2026-05-01")
    asked = options(tmp_path, demo=False, config=None)
    started = programs(asked, replace(OWN, replay_id="anew"))
    assert not [name for program in started.values() for name in program.env if name.startswith("BLOBTIDE_")]
    monitor = loaded_by(started["blob-monitor"], monkeypatch)
    storage = monitor.subscriptions["production"].environments["eu"].storage
    assert storage.account_key is not None
    assert (storage.account_key.get_secret_value(), storage.account_name) == ("bmV3", "logs")
    assert (monitor.monitor.start_policy, monitor.monitor.replay_id) == ("start_over", "anew")
    assert monitor.monitor.date_range.specific_date == date(2026, 5, 1)
    sink = loaded_by(started["sink-elasticsearch"], monkeypatch)
    assert sink.sinks["elasticsearch"] == {"hosts": ["https://search:9200"], "password": "of-the-sink"}
    del earnest


def test_starting_over_from_a_time_is_refused(tmp_path: Path) -> None:
    """The two say different things of where to begin; the services would refuse them together, one after the other."""
    config = tmp_path / "my.yaml"
    config.write_text(EARNEST + "\nmonitor: {start_policy: from, start_from: 2026-01-01T00:00:00Z}\n")
    done = run("up", "--config", str(config), "--start-over", "--data-dir", str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (ConfigError.exit_code, "")
    assert "remove monitor.start_policy and monitor.start_from" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("hosts:", "host:"), "sink elasticsearch: sinks.elasticsearch.host: unknown setting; did you mean hosts?"),
        (("elasticsearch:", "elastic:"), "sink elastic: sinks.elastic: unknown sink 'elastic'; did you mean elasticsearch?"),
        (
            ("account_name: logs, account_key: a2V5", "connection_string: hunter2"),
            "storage of production.eu: storage of environment production.eu: connection_string",
        ),
    ],
    ids=["option", "sink", "storage"],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_done(
    change: tuple[str, str], said: str, tmp_path: Path
) -> None:
    """A sink or an account that a service would refuse ends `up` in one line, with nothing deleted and nothing started."""
    config = tmp_path / "my.yaml"
    config.write_text(EARNEST.replace(*change))
    config.chmod(0o600)
    kept = tmp_path / "data" / "flows" / "of-the-first-run"
    kept.parent.mkdir(parents=True)
    kept.touch()
    done = run("up", "--config", str(config), "--fresh", "--data-dir", str(tmp_path / "data"))
    assert (done.returncode, done.stderr.count("\n")) == (ConfigError.exit_code, 1)
    assert said in done.stderr
    assert "hunter2" not in done.stderr
    assert "starting" not in done.stdout
    assert kept.exists()


@pytest.mark.parametrize("option", ["--nics", "--speed"])
def test_options_of_the_demo_are_refused_without_it(option: str, earnest: Path, tmp_path: Path) -> None:
    """What would have no effect is not taken in silence, not even with its default value."""
    value = "4" if option == "--nics" else "60"
    done = run("up", option, value, "--config", str(earnest), "--data-dir", str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"blobtide up: {option} requires --demo. See `blobtide up --help`.\n"


def test_a_port_that_is_taken_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    """--kafka-port where somebody listens is one line and exit code 2; --fresh has deleted nothing."""
    kept = tmp_path / "flows" / "of-the-first-run"
    kept.parent.mkdir()
    kept.touch()
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("up", "--demo", "--fresh", "--kafka-port", port, "--data-dir", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"--kafka-port {port}: the port is in use" in done.stderr
    assert kept.exists()


def test_a_port_is_taken_again_if_it_is_free(tmp_path: Path) -> None:
    """A server gets the port of its last run, unless somebody listens there or what was written down is broken."""
    assert last_port(tmp_path, "kafka") is None
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
        remember_port(tmp_path, "kafka", port)
        remember_port(tmp_path, "azurite", port + 1)
        assert last_port(tmp_path, "kafka") is None
    assert last_port(tmp_path, "kafka") == port
    for broken in ("", "[]", '{"kafka": "x"}'):
        (tmp_path / "ports.json").write_text(broken)
        assert last_port(tmp_path, "kafka") is None


@pytest.mark.parametrize(
    ("program", "config", "login", "line"),
    [
        ("/x/blobtide", None, {}, "/x/blobtide tail -f flows --bootstrap-servers h:1"),
        ("/x/main.py", None, {}, "blobtide tail -f flows --bootstrap-servers h:1"),
        ("/x/main.py", "/my file.yaml", {}, "blobtide tail -f flows --bootstrap-servers h:1 --config '/my file.yaml'"),
        ("/x/main.py", os.devnull, {}, f"blobtide tail -f flows --bootstrap-servers h:1 --config {os.devnull}"),
        (
            "/x/main.py",
            None,
            {"security_protocol": "SASL_SSL"},
            f"{PLAINTEXT} blobtide tail -f flows --bootstrap-servers h:1",
        ),
        (
            "/x/main.py",
            None,
            {"security_protocol": "SASL_SSL", "sasl_username": "me"},
            f"{PLAINTEXT} BLOBTIDE_KAFKA__SASL_USERNAME= blobtide tail -f flows --bootstrap-servers h:1",
        ),
    ],
    ids=["by its path", "as a module", "a file", "the demo", "another Kafka", "its login"],
)
@pytest.mark.usefixtures("earnest")
def test_the_line_that_follows_the_flows_can_be_copied(
    program: str, config: str | None, login: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It calls the same program, reads the same settings, and reaches the Kafka of this run whichever one they name."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(sys, "argv", [program, "up"])
    settings = Settings.model_validate({"kafka": login})
    assert tail_line(settings, None if config is None else Path(config), "h:1") == line


def test_the_demo_needs_no_settings_file_to_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no default settings file, `tail` reads as little as the demo does."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "--config" not in tail_line(Settings(), Path(os.devnull), "h:1")


@pytest.mark.parametrize("demo", [True, False])
def test_settings_that_can_work_are_not_refused(*, demo: bool, earnest: Path, tmp_path: Path) -> None:
    """Neither the accounts of the demo, which do not run yet, nor the login of a Kafka that is not used are in the way."""
    with earnest.open("a") as file:
        file.write("kafka: {security_protocol: SASL_SSL, sasl_username: me, sasl_password_file: /none}")
    for read, is_demo in ((earnest, demo), (Path(os.devnull), True)):
        asked, settings = options(tmp_path, demo=is_demo, config=read), load_settings(read)
        refuse_what_cannot_run(settings, tmp_path, up._expected(asked, settings))


@pytest.mark.parametrize(("code", "ends_with"), [(ConfigError.exit_code, ConfigError), (7, BlobtideError)])
def test_up_goes_on_when_a_program_cannot_run_and_says_so_at_its_end(
    code: int, ends_with: type[BlobtideError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sink that refuses its settings, or ends again and again, ends `up` only when it is told to stop, and not with 0."""
    monkeypatch.setattr("services.cli.up.supervisor.LONGEST_DELAY", 0.01)
    refusing = Program(
        "sink-x", (sys.executable, "-c", f"print('no template'); raise SystemExit({code})"), {}, tmp_path / "x.log"
    )
    good = Program("sink-y", (sys.executable, "-c", "import time; time.sleep(600)"), {}, tmp_path / "y.log")
    out, supervisor = StringIO(), Supervisor([refusing, good])
    supervisor.start()
    bad = supervisor.children[0]
    bad.delay = 0.01
    try:
        stop = _StopWhen(lambda: bad.cannot_run and bad.restarts >= CRASH_LOOP)
        up._Up(options(tmp_path, demo=True, config=None), Settings(), View(out))._watch(supervisor, stop)
        failed = supervisor.failed()
        assert [child.program.name for child in failed] == ["sink-x"]
        assert supervisor.children[1].restarts == 0
    finally:
        supervisor.stop()
    with pytest.raises(ends_with, match=r"sink-x was unable to run: no template \(exit code \d\); see .*x\.log") as raised:
        up._raise_for(failed)
    assert raised.value.exit_code == ends_with.exit_code
    assert re.search(r"sink-x +(failed|restarting) ", out.getvalue())
    up._raise_for([])


class _StopWhen(Stop):
    """Is set when something is so."""

    def __init__(self, done: Callable[[], bool]) -> None:
        super().__init__()
        self._done = done

    def is_set(self) -> bool:
        """Look."""
        return self._done()


def test_the_login_of_another_kafka_stays_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `up` starts goes to the broker of `up`, which asks for no login, and is told none; all else of Kafka holds."""
    file = tmp_path / "config.yaml"
    options_of_client = "{sasl.password: p, ssl.key.password: p, linger.ms: '7'}"
    file.write_text(
        "kafka: {security_protocol: SASL_SSL, sasl_username: me, sasl_password_file: /none, verify: false,"
        f" group_prefix: mine, librdkafka: {options_of_client}}}"
    )
    for program in programs(options(tmp_path, demo=False, config=file)).values():
        kafka = loaded_by(program, monkeypatch).kafka
        assert (kafka.bootstrap_servers, kafka.security_protocol, kafka.verify) == (OWN.bootstrap_servers, "PLAINTEXT", True)
        assert (kafka.sasl_username, kafka.sasl_password_file) == ("", None)
        assert (kafka.group_prefix, kafka.librdkafka) == ("mine", {"linger.ms": "7"})


def test_no_secret_stands_in_an_environment_or_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither guards nor programs have a secret where others may read it, and a program that needs it has it all the same."""
    monkeypatch.setenv("BLOBTIDE_SUBSCRIPTIONS__A__ENVIRONMENTS__B__STORAGE__ACCOUNT_KEY", "canary-of-ours")
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "canary-of-the-cloud")
    monkeypatch.setenv("GITHUB_TOKEN", "canary-of-others")
    monkeypatch.setenv("https_proxy", "http://user:canary-of-the-proxy@proxy:1")
    code = (
        "import sys, time\nfrom libs.common.settings import load_settings\n"
        "print('read ' + load_settings().sinks['x']['password'][::-1], file=sys.stderr, flush=True)\ntime.sleep(600)\n"
    )
    settings = {"sinks": {"x": {"password": "canary-of-a-sink", "much": "more than a pipe holds" * 10_000}}}
    program = Program("p", (sys.executable, "-c", code), {}, tmp_path / "log", settings=settings)
    supervisor = Supervisor([program])
    supervisor.start()
    try:
        deadline = time.monotonic() + SECONDS
        while "read knis-a-fo-yranac" not in program.log.read_text():
            assert time.monotonic() < deadline, program.log.read_text()
            time.sleep(0.02)
        seen = [(process.environ(), process.cmdline()) for process in psutil.Process().children(recursive=True)]
        assert len(seen) >= 2
        assert "canary" not in str(seen)
    finally:
        supervisor.stop()


def test_only_what_reads_storage_may_sign_in_to_the_cloud(
    earnest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service principal in the environment goes on to the monitor and to ingest, which sign in with it."""
    del earnest
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "canary")
    started = programs(options(tmp_path, demo=False, config=None))
    have = [name for name, program in started.items() if program.env.get("AZURE_CLIENT_SECRET") == "canary"]
    assert have == ["blob-monitor", "ingest"]
