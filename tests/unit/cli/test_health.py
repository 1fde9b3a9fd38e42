"""`blobtide health` against the health server of a service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from libs.common.process.health import Health, HealthServer
from libs.common.settings.process import HttpSettings
from libs.local.ports import free_port
from services.cli.health import command


@pytest.fixture
def health() -> Health:
    """What the service says of itself."""
    return Health()


@pytest.fixture
def port(health: Health) -> Iterator[int]:
    """Where the service answers."""
    server = HealthServer(HttpSettings(port=0), health)
    server.start()
    yield server.port
    server.stop()


def _ask(*words: object) -> Result:
    return CliRunner().invoke(command, [*map(str, words)])


def test_the_exit_code_follows_the_service(health: Health, port: int) -> None:
    """1 with the reason until the service is ready, 0 then; liveness is asked apart."""
    starting = _ask("--port", port)
    assert (starting.exit_code, starting.stderr) == (1, "starting\n")
    assert _ask("--port", port, "--live").exit_code == 0
    health.ready()
    assert (_ask("--port", port).exit_code, _ask("--port", port).output) == (0, "ready\n")


def test_no_service_is_not_ready() -> None:
    """Nobody on the port: exit code 1 and one line."""
    port = free_port()
    done = _ask("--port", port)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"no service responds on port {port}: ")
    assert done.stderr.count("\n") == 1
