"""The servers of `blobtide up` are started again without anybody waiting for them."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libs.local.ports import LOOPBACK
from libs.local.process import Launch, LocalServer
from services.cli.up.servers import Servers
from services.cli.up.supervisor import ProgramState, StateChange

SECONDS = 20.0


class _Script(LocalServer):
    """A server that is a line of shell, ready when it says so."""

    name = "script"
    line = "echo ready; exec sleep 600"

    @classmethod
    def install(cls) -> None:
        """Need nothing."""

    def _launch(self) -> Launch:
        return Launch(("sh", "-c", self.line), ready=lambda: "ready" in self.output(), seconds=SECONDS)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[_Script]:
    """Run a server."""
    script = _Script(tmp_path)
    script.start()
    yield script
    script.kill()


@pytest.fixture
def servers(server: _Script) -> Servers:
    """Look after it, with a clock that stands still unless a test moves it."""
    kept = Servers(clock=lambda: 0.0)
    kept.add(server)
    return kept


def steps(servers: Servers, done: Callable[[list[StateChange]], object]) -> list[StateChange]:
    """Step until what was seen is enough."""
    deadline = time.monotonic() + SECONDS
    seen: list[StateChange] = []
    while not done(seen):
        assert time.monotonic() < deadline, seen
        seen += servers.step()
        time.sleep(0.01)
    return seen


def test_a_server_that_ends_is_started_again_while_other_work_is_done(
    server: _Script, servers: Servers, tmp_path: Path
) -> None:
    """No step waits for the start: between its begin and its end, which here a file decides, steps return."""
    gate = tmp_path / "gate"
    server.line = f"while [ ! -e {gate} ]; do sleep 0.01; done; echo ready; exec sleep 600"
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGKILL)
    assert steps(servers, lambda seen: seen)[0].detail == f"it ended; see {server.log_path}"
    steps(servers, lambda _: servers.kept[0].state is ProgramState.STARTING)
    assert servers.step() == []
    assert not servers.is_ready(server)
    gate.touch()
    assert steps(servers, lambda seen: seen) == [StateChange("script", ProgramState.READY)]
    assert servers.is_ready(server)
    assert server.running


def test_a_server_that_does_not_come_up_is_tried_again(server: _Script, servers: Servers) -> None:
    """A start that fails is put off, each time for longer, and `up` goes on; when it can start, it does."""
    now = 0.0
    servers.clock = lambda: now
    server.line = "exit 7"
    server.kill()
    delays = []
    for _ in range(3):
        seen = steps(servers, lambda seen: any("retrying in" in change.detail for change in seen))
        assert "script ended with exit code 7" in seen[-1].detail
        delays.append(servers.kept[0].again_at - now)
        assert servers.step() == []
        now = servers.kept[0].again_at
    assert delays == [1.0, 2.0, 4.0]
    server.line = _Script.line
    assert steps(servers, lambda seen: seen)[-1].state is ProgramState.READY


def test_a_server_whose_port_is_taken_waits_for_it(server: _Script, servers: Servers) -> None:
    """What an earlier process still holds is waited for, said once, and is not the end of all."""
    now = 0.0
    servers.clock = lambda: now
    with socket.create_server((LOOPBACK, server.port)):
        server.kill()
        seen = steps(servers, lambda seen: len(seen) > 1)
        assert seen[-1] == StateChange(
            "script", ProgramState.WAITING, f"waiting for its port {server.port}, which another process is using"
        )
        now += 1
        assert servers.step() == []
    now += 1
    assert steps(servers, lambda seen: seen)[-1].state is ProgramState.READY


def test_a_server_can_be_started_anew_though_it_runs(server: _Script, servers: Servers) -> None:
    """It is asked to end, killed if it does not, and started again; the reason is shown."""
    now = 0.0
    servers.clock = lambda: now
    before = server._process
    server_ignores_us = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    server.line = server_ignores_us
    assert servers.restart(server, "it is deaf") == [StateChange("script", ProgramState.WAITING, "it is deaf")]
    assert steps(servers, lambda seen: seen)[-1].state is ProgramState.READY
    assert server._process is not before
    server.line = _Script.line
    deaf = server._process
    servers.restart(server, "it is deaf")
    assert servers.step() == []
    assert server._process is deaf
    now += 60
    assert steps(servers, lambda seen: seen)[-1].state is ProgramState.READY
    assert server._process is not deaf
