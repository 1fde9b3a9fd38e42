"""`blobtide tail` as a process, over a follower that needs no Kafka."""

from __future__ import annotations

import calendar
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from libs.common.errors import ConfigError
from services.cli.since import milliseconds_of

SCRIPT = """
import sys
from libs.common.kafka.client.client_log import ClientLog
from libs.common.kafka.records import Inbound
from services.cli import main
from services.cli.tail import command

class Fake(command.Follower):
    def open(self):
        ClientLog("follow").log(40, "%s [%s] %s", "FAIL", "rdkafka#1", "broker 1 is away")

    def backlog(self):
        return iter([Inbound("t", 0, n, 0, None, b"x" * 100, ()) for n in range(10_000)])

command.Follower = Fake
sys.exit(main.run(["tail", "t", "--since", "0", "--format", "json"]))
"""


def tail(stdout: IO[Any] | int, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    environ = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PYTHONUNBUFFERED": "1"}
    argv = (sys.executable, "-c", SCRIPT)
    return subprocess.run(
        argv, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False, env=environ, **options
    )


def test_what_the_client_logs_is_not_among_the_lines() -> None:
    """Standard output holds messages only; the log goes to standard error."""
    done = tail(subprocess.PIPE)
    assert done.returncode == 0
    assert [json.loads(line)["offset"] for line in done.stdout.splitlines()] == list(range(10_000))
    assert "broker 1 is away" in done.stderr


def test_lines_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    """Standard output that takes only a part is one line that says so."""

    def few_bytes() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    with (tmp_path / "out").open("wb") as out:
        done = tail(out, preexec_fn=few_bytes)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "blobtide: standard output: cannot write: File too large"
    assert "Traceback" not in done.stderr


@pytest.fixture
def far_from_utc() -> Iterator[None]:
    """Live in a zone of another offset than UTC's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_utc")
@pytest.mark.parametrize(
    "text", ["2026-05-01T12:00:00Z", "2026-05-01T14:00:00+02:00", "2026-05-01T12:00:00", "2026-05-01 12:00"]
)
def test_a_time_without_a_zone_is_utc(text: str) -> None:
    """Wherever the command runs: the logs are in UTC too."""
    assert milliseconds_of("--since", text) == calendar.timegm((2026, 5, 1, 12, 0, 0)) * 1000


@pytest.mark.parametrize("text", ["yesterday", "12:00", "0001-01-01T00:00:00+02:00"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    """One line says how to write it."""
    with pytest.raises(ConfigError, match="give an age such as 10m"):
        milliseconds_of("--since", text)
