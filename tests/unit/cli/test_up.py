"""What `blobtide up` starts its programs with."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from libs.common.errors import BlobtideError, ConfigError
from libs.common.service import Stop
from libs.common.settings import Settings, load_settings
from libs.local.ports import LOOPBACK
from services.cli import up
from services.cli.supervisor import CRASH_LOOP, Program, Supervisor
from services.cli.up_hints import tail_line
from services.cli.up_ports import last_port, remember_port
from services.cli.up_settings import demo_variables, kafka_variables, refuse_what_cannot_run
from services.cli.up_view import View
from tests.unit.cli.test_commands import run

PLAINTEXT = "BLOBTIDE_KAFKA__SECURITY_PROTOCOL=PLAINTEXT"
EARNEST = """
subscriptions:
  production:
    environments:
      eu: {storage: {account_name: logs, account_key: a2V5}, sources: [{container: insights-logs-flowlogflowevent}]}
sinks:
  elasticsearch: {hosts: ["https://search:9200"]}
"""


def options(tmp_path: Path, *, demo: bool, config: Path | None) -> up.UpOptions:
    """Return what the command line would say."""
    return up.UpOptions(
        config=config,
        data_dir=tmp_path,
        demo=demo,
        fresh=False,
        start_over=False,
        nics=1,
        speed=60,
        seconds=None,
        kafka_port=None,
    )


def programs(asked: up.UpOptions, environ: dict[str, str]) -> list[Program]:
    """Return what would be started."""
    return list(up._Up(asked, load_settings(asked.config), View(StringIO()))._programs(environ))


def loaded_by(program: Program, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings as a program loads them."""
    with monkeypatch.context() as patch:
        for name, value in program.env.items():
            patch.setenv(name, value)
        return load_settings()


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
    started = programs(asked, demo_variables("UseDevelopmentStorage=true"))
    assert [program.name for program in started] == ["blob-monitor", "ingest", "parser", "sink-file", "sink-summary", "demo"]
    for program in started:
        settings = loaded_by(program, monkeypatch)
        assert list(settings.subscriptions) == ["demo"]
        assert list(settings.sinks) == ["file", "summary"]


@pytest.mark.parametrize("demo", [True, False])
def test_a_named_settings_file_reaches_every_program(
    *, demo: bool, earnest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What --config names is read by all programs, with the demo and without."""
    named = earnest.rename(tmp_path / "my.yaml")
    asked = up._without_default_file(options(tmp_path, demo=demo, config=named))
    for program in programs(asked, {}):
        assert os.fspath(named) == program.env["BLOBTIDE_CONFIG"]
        assert list(loaded_by(program, monkeypatch).sinks) == ["elasticsearch"]


def test_starting_over_from_a_time_is_refused(tmp_path: Path) -> None:
    """The two say different things of where to begin; the services would refuse them together, one after the other."""
    config = tmp_path / "my.yaml"
    config.write_text(EARNEST + "\nmonitor: {start_policy: from, start_from: 2026-01-01T00:00:00Z}\n")
    done = run("up", "--config", str(config), "--start-over", "--data-dir", str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (ConfigError.exit_code, "")
    assert "leave monitor.start_policy and monitor.start_from out" in done.stderr
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
    assert (
        done.stderr == f"blobtide up: {option} is for the demo: give --demo too, or leave it out. See `blobtide up --help`.\n"
    )


def test_a_port_that_is_taken_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    """--kafka-port where somebody listens is one line and exit code 2; --fresh has deleted nothing."""
    kept = tmp_path / "flows" / "of-the-first-run"
    kept.parent.mkdir()
    kept.touch()
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("up", "--demo", "--fresh", "--kafka-port", port, "--data-dir", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"--kafka-port {port}: somebody listens there" in done.stderr
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
    refuse_what_cannot_run(load_settings(earnest), tmp_path, demo=demo)
    refuse_what_cannot_run(load_settings(Path(os.devnull)), tmp_path, demo=True)


@pytest.mark.parametrize(("code", "ends_with"), [(ConfigError.exit_code, ConfigError), (7, BlobtideError)])
def test_up_goes_on_when_a_program_cannot_run_and_says_so_at_its_end(
    code: int, ends_with: type[BlobtideError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sink that refuses its settings, or ends again and again, ends `up` only when it is told to stop, and not with 0."""
    monkeypatch.setattr("services.cli.supervisor.LONGEST_DELAY", 0.01)
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
    with pytest.raises(ends_with, match="could not run: sink-x") as raised:
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


def test_the_login_of_another_kafka_does_not_stop_what_up_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `up` starts reads the settings file with its login, and goes to the broker of `up`, which asks for none."""
    file = tmp_path / "config.yaml"
    file.write_text("kafka: {security_protocol: SASL_SSL, sasl_username: me, sasl_password: p, sasl_password_file: /none}")
    for name, value in kafka_variables("127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    kafka = load_settings(file).kafka
    assert (kafka.bootstrap_servers, kafka.security_protocol, kafka.sasl_password_file) == ("127.0.0.1:9", "PLAINTEXT", None)
