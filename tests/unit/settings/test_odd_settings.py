"""Settings as nobody would write them: each is one line, or is read; never a traceback, a wait without end or a full memory."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from libs.common.azure.storage.credentials import resolve
from libs.common.errors import ConfigError
from libs.common.settings import Settings, load_settings
from libs.common.settings.monitor import MonitorSettings
from libs.common.settings.secrets import read_secret
from libs.common.settings.storage import StorageAccount
from libs.common.settings.text_file import MOST_BYTES, read_text_file
from services.cli.main import run

LEAF = "a0: &a0 {x: 1}"
LAUGHS = "\n".join([LEAF, *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))])
MERGES = "\n".join([LEAF, *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12))])
DEEPER = "\n".join([LEAF, *(f"a{n}: &a{n} {'[' * 50}*a{n - 1}{']' * 50}" for n in range(1, 40))])
ODD: list[tuple[str | bytes, str]] = [
    ("a: " + "[" * 100_000, "line 1, column 67: not valid YAML: nested more than 64 levels deep"),
    ("a: " + "{b: " * 100_000, "nested more than 64 levels deep"),
    (LAUGHS, "aliases expand to more than"),
    (MERGES, "aliases expand to more than"),
    (DEEPER, "aliases expand to more than"),
    ("a: &a [*a]", "a value contains itself"),
    ("kafka: &k {librdkafka: *k}", "a value contains itself"),
    (f"http: {{port: {'9' * 5_000}}}", "not a valid int"),
    (f"http: {{port: {'9' * 4_000}}}", "http.port"),
    (f"monitor: {{interval_seconds: {'9' * 400}}}", "monitor"),
    ("monitor: {interval_seconds: 1.0e+200}", "interval_seconds is too large: at most 1,000,000,000"),
    ("parser: {poll_messages: 99999999999999999999}", "poll_messages is too large"),
    ("monitor: {start_policy: from, start_from: 0001-01-01T00:00:00+23:59}", "start_from is outside"),
    ('kafka: {sasl_password_file: "a\\0b"}', "kafka.sasl_password_file: contains a NUL"),
    ('sinks: {file: {directory: "/data\\0"}}', "sinks.file.directory: contains a NUL"),
    ('sinks: {file: {directory: ["\\ud800"]}}', "sinks.file.directory: contains"),
    ('"ka\\0fka": {}', "contains a NUL"),
    (b"\x7fELF\x02\x01\x01\0\0\xff\xfe", "is not text: byte"),
    (b"\x00\x01\x02", "not valid YAML"),
    (b"kafka: {}\n" + b"#" * MOST_BYTES, "has more than 1,048,576 bytes"),
    ("? [a, b]\n: c", "not valid YAML: found unhashable key"),
    ("? {a: b}\n: c", "not valid YAML"),
    ("!!python/object/apply:os.system [id]", "not valid YAML"),
    ("--- a\n--- b", "not valid YAML"),
]


@pytest.mark.parametrize(("content", "message"), ODD)
def test_an_odd_file_is_one_line(content: str | bytes, message: str, tmp_path: Path) -> None:
    """Deep, endless, huge, binary or hostile: one line says what is wrong and where."""
    file = tmp_path / "config.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1_000


def _pipe(directory: Path) -> Path:
    os.mkfifo(directory / "pipe")
    return directory / "pipe"


def _unreadable(directory: Path) -> Path:
    file = directory / "loop"
    file.symlink_to(file)
    return file


def _rubbish(directory: Path) -> Path:
    (directory / "rubbish").write_bytes(b"ab\xff")
    return directory / "rubbish"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _: Path("/dev/zero"), "has more than 1,048,576 bytes"),
        (lambda directory: directory, "Is a directory"),
        (_pipe, "is it a pipe without a writer"),
        (_rubbish, "is not text: byte 2 is not valid UTF-8"),
        (_unreadable, "Too many levels of symbolic links"),
        (lambda _: Path("a\0b"), "embedded null byte"),
    ],
    ids=["endless", "directory", "pipe", "rubbish", "unreadable", "NUL"],
)
def test_an_odd_secret_file_is_one_line(
    make: Callable[[Path], Path], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands where a secret should be is named with its setting; nothing is read or waited for without end."""
    monkeypatch.setattr("libs.common.settings.text_file.PIPE_SECONDS", 0.1)
    monkeypatch.setattr(read_text_file, "__defaults__", (0.1,))
    file = make(tmp_path)
    with pytest.raises(ConfigError, match=reason) as caught:
        read_secret("password", None, file)
    assert "password_file" in str(caught.value)
    with pytest.raises(ConfigError, match=f"storage of environment s.e: .*account_key_file.*{reason}"):
        resolve(StorageAccount(account_name="logs", account_key_file=file), "s.e")


def test_settings_may_come_through_a_pipe(tmp_path: Path) -> None:
    """As from a shell's `<(sops -d file)`: what the writer says, also late and in pieces, is read to its end."""
    pipe = _pipe(tmp_path)

    def write() -> None:
        with pipe.open("w") as file:
            for piece in ("kafka: {", "bootstrap_servers: 'late:1'", "}"):
                file.write(piece)
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    assert load_settings(pipe).kafka.bootstrap_servers == "late:1"
    writer.join()


def test_a_variable_of_nested_brackets_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON in variables is bounded as YAML in files is."""
    monkeypatch.setenv("BLOBTIDE_KAFKA", "[" * 200_000)
    with pytest.raises(ConfigError, match="BLOBTIDE_"):
        load_settings()


_TEXTS = st.text(max_size=20) | st.binary(max_size=20)
_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _TEXTS, st.dates(), st.datetimes())
_GROUPS = st.sampled_from(list(Settings.model_fields))
_NAMES = st.sampled_from([*MonitorSettings.model_fields, "librdkafka", "sasl_password_file", "storage", "environments", "port"])
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES | st.text(max_size=5), inner, max_size=4)
)


@settings(max_examples=150)
@given(st.dictionaries(_GROUPS, st.dictionaries(_NAMES, _VALUES, max_size=4) | _VALUES, max_size=4))
def test_any_values_are_settings_or_one_line(tmp_path_factory: pytest.TempPathFactory, values: object) -> None:
    """Values of every type in every group load or are refused by name."""
    _load(tmp_path_factory, yaml.safe_dump(values, allow_unicode=True).encode(errors="surrogatepass"))


@settings(max_examples=150)
@given(st.binary(max_size=200) | st.text("{}[]&*<>!:-,#'\"|\n ?%@`~0a", max_size=80).map(str.encode))
def test_any_bytes_are_settings_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever a file holds, the only exception is ours."""
    _load(tmp_path_factory, content)


def _load(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    file.write_bytes(content)
    with suppress(ConfigError):
        load_settings(file)


SECRET = {"kafka": {"security_protocol": "SASL_SSL", "sasl_username": "u", "sasl_password": "p"}}


@pytest.mark.parametrize(
    ("values", "mode", "said"),
    [
        (SECRET, 0o644, True),
        ({"sinks": {"redis": {"password": "p"}}}, 0o604, True),
        (SECRET, 0o640, False),
        (SECRET, 0o600, False),
        ({"kafka": {"compression": "lz4"}}, 0o644, False),
        ({"sinks": {"redis": {"password_file": "/none"}}}, 0o644, False),
    ],
)
def test_secrets_that_others_can_read_are_warned_of(
    values: object,
    mode: int,
    said: bool,  # noqa: FBT001
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A settings file that holds secrets itself should be its owner's (perhaps a group's) alone; said once, at the start."""
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(values))
    file.chmod(mode)
    assert bool(load_settings(file).notes) is said
    run(["sink-setup", "stdout", "--config", str(file)])
    assert capsys.readouterr().err.count("is world-readable: chmod 600") == int(said)


def test_a_given_secret_is_not_changed() -> None:
    """What is checked is the file; a value is taken as it stands."""
    structlog.reset_defaults()
    assert read_secret("x", SecretStr(" a\t"), None) == " a\t"
