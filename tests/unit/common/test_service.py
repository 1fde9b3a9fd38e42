"""What every service process has."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from libs.common import service
from libs.common.service import Health, HealthServer
from libs.common.settings.services import HttpSettings

_DEFECTIVE = """
import threading
from libs.common.service import run_service
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


def test_a_connection_that_asks_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects to the health port and stays silent is let go, so that no thread waits for it for ever."""
    monkeypatch.setattr(service, "IDLE_SECONDS", 0.05)
    server = HealthServer(HttpSettings(port=0), Health())
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as silent:
            assert silent.recv(1) == b""
    finally:
        server.stop()
