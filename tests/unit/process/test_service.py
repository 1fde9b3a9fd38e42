"""What every service process has."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Metric
from structlog.testing import capture_logs

from libs.common.errors import ConfigError
from libs.common.process.health import DRAINING, NO_PARTITIONS, STALE_AFTER_SECONDS, Health, HealthServer, Need
from libs.common.settings.process import HttpSettings
from libs.local.ports import free_port

_DEFECTIVE = """
import threading
from libs.common.process.service import run_service
from libs.common.settings import Settings

def work(*_):
    raise RuntimeError("GET https://a.blob.core.windows.net/c?sv=1&sig=SECRET%3D failed")

class Defective:
    def run(self, stop, health):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        work()

run_service("x", Settings(http={"port": 0}, log={"format": "json"}), lambda _: Defective())
"""


def test_what_nobody_caught_is_a_log_line_without_secrets() -> None:
    """A defect ends the process, and in a thread the thread, with its traceback in one JSON line, credentials taken out."""
    ended = subprocess.run([sys.executable, "-c", _DEFECTIVE], capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    found = [line for line in lines if line["level"] == "critical"]
    assert ended.returncode == 1
    assert [line["error_type"] for line in found] == ["RuntimeError"] * 2
    assert all("Traceback" in line["exception"] and "sig=*** failed" in line["exception"] for line in found)
    assert "SECRET" not in ended.stderr + ended.stdout


@contextmanager
def _served(health: Health) -> Iterator[Callable[[str], tuple[int, Any]]]:
    """Serve `health`; yield what asks for a path and returns status and document."""
    server = HealthServer(HttpSettings(port=0), health)
    server.start()

    def ask(path: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    try:
        yield ask
    finally:
        server.stop()


def test_a_loop_that_stands_still_is_not_alive_until_it_goes_on() -> None:
    """`/livez` answers 503 as soon as the heartbeat is a minute old, and 200 after the next beat, ready or not."""
    now = [0.0]
    health = Health(lambda: now[0])
    with _served(health) as ask:
        now[0] = STALE_AFTER_SECONDS - 1
        assert ask("/livez") == (200, {"alive": True})
        now[0] = STALE_AFTER_SECONDS
        assert ask("/livez") == (503, {"alive": False})
        health.beat()
        assert ask("/livez") == (200, {"alive": True})


def test_readiness_names_everything_that_is_missing() -> None:
    """`/readyz` answers 503 with each reason while one is left, without secrets, and 200 when there is none."""
    health = Health()
    with _served(health) as ask:
        assert ask("/readyz") == (503, {"ready": False, "reason": "starting"})
        health.not_ready(NO_PARTITIONS)
        health.not_ready("https://u:secret@host/ is away", Need.DESTINATION)
        assert ask("/readyz")[1]["reason"] == f"{NO_PARTITIONS}; https://***@host/ is away"
        health.ready()
        assert ask("/readyz") == (503, {"ready": False, "reason": "https://***@host/ is away"})
        health.ready(Need.DESTINATION)
        assert ask("/readyz") == (200, {"ready": True, "reason": None})


def test_what_is_noted_is_shown_and_keeps_nothing_from_being_ready() -> None:
    """`/readyz` answers 200 with the notes, without secrets, until they are taken back."""
    health = Health()
    health.ready()
    with _served(health) as ask:
        health.note("quarantine", "1 blob of https://u:secret@host/")
        assert ask("/readyz") == (200, {"ready": True, "reason": None, "notes": ["1 blob of https://***@host/"]})
        health.note("quarantine", "")
        assert ask("/readyz") == (200, {"ready": True, "reason": None})


_DRAINING = """
import os, signal, sys
from libs.common.process.service import run_service
from libs.common.settings import Settings
from services.cli.health import command

class Busy:
    def run(self, stop, health):
        health.ready()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(30)
        command(["--port", sys.argv[1]], standalone_mode=False)

run_service("x", Settings(http={"port": int(sys.argv[1])}), lambda _: Busy())
"""


def test_a_process_that_was_told_to_end_is_not_ready() -> None:
    """From SIGTERM on, while it finishes what is open, `/readyz` says that it is draining."""
    asked = subprocess.run(
        [sys.executable, "-c", _DRAINING, str(free_port())], capture_output=True, text=True, check=False, timeout=60
    )
    assert DRAINING in asked.stderr.splitlines()
    assert asked.returncode == 1


_TAKEN = """
import sys
from libs.common.process.service import run_service
from libs.common.settings import Settings

sys.exit(run_service("x", Settings(http={"port": int(sys.argv[1])}), lambda _: None))
"""


def test_a_health_port_that_is_taken_names_the_setting() -> None:
    """A second service with the same port ends with the code of wrong settings and one line that says what to change."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        ended = subprocess.run([sys.executable, "-c", _TAKEN, port], capture_output=True, text=True, check=False, timeout=60)
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == ConfigError.exit_code
    assert all(word in line for word in (port, "Address already in use", "http.port", "BLOBTIDE_HTTP__PORT"))


def test_a_connection_that_asks_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects to the health port and stays silent is let go, so that no thread waits for it for ever."""
    monkeypatch.setattr("libs.common.process.health.IDLE_SECONDS", 0.05)
    server = HealthServer(HttpSettings(port=0), Health())
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as silent:
            assert silent.recv(1) == b""
    finally:
        server.stop()


class _Answers:
    """A metric that takes as long as the test wants, and may fail."""

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def collect(self) -> Iterator[Metric]:
        """Wait, then have nothing to say."""
        self.asked.set()
        self.go_on.wait(30)
        if self.error is not None:
            raise self.error
        yield from ()


@pytest.mark.parametrize(("error", "logged"), [(None, []), (ValueError("a defect"), ["cannot answer a probe"])])
def test_a_probe_that_goes_away_is_no_news_and_a_defect_is(
    error: Exception | None, logged: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever does not wait for the answer leaves nothing in the log; a defect in answering is one line."""
    registry, answers = CollectorRegistry(auto_describe=False), _Answers()
    registry.register(answers)
    server = HealthServer(HttpSettings(port=0), Health(), registry)
    server.start()
    with capture_logs() as lines:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as probe:
            probe.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert answers.asked.wait(30)
            # Closing without lingering resets the connection at once.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        answers.error = error
        answers.go_on.set()
        for thread in [one for one in threading.enumerate() if "process_request_thread" in one.name]:
            thread.join(30)
    server.stop()
    assert [line["event"] for line in lines] == logged
    assert capfd.readouterr().err == ""
