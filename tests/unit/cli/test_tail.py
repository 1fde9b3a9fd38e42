"""`blobtide tail` as a process, over a follower that needs no Kafka."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

SCRIPT = """
import sys
from libs.common.kafka.client_log import ClientLog
from libs.common.kafka.records import Inbound
from services.cli import main, tail

class Fake(tail.Follower):
    def open(self):
        ClientLog("follow").log(40, "%s [%s] %s", "FAIL", "rdkafka#1", "broker 1 is away")

    def backlog(self):
        return iter([Inbound("t", 0, n, 0, None, b"x" * 100, ()) for n in range(10_000)])

tail.Follower = Fake
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
