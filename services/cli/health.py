"""``blobtide health``: report by exit code whether a service on this machine is ready; for container health checks."""

from __future__ import annotations

import http.client
import json
import sys
from typing import Final

import click

from services.cli.help_text import examples
from services.cli.terminal import say

# As in HttpSettings; importing that would load all settings, too much for a command that runs every few seconds.
DEFAULT_PORT: Final = 9464
_ANSWER_SECONDS: Final = 3


@click.command(epilog=examples("blobtide health", "blobtide health --port 9470 --live"))
@click.option("--port", type=int, default=DEFAULT_PORT, show_default=True, help="The service's health port.")
@click.option("--live", is_flag=True, help="Check liveness instead of readiness.")
def command(port: int, *, live: bool) -> None:
    """Exit with 0 if the service is ready (with --live: alive), otherwise with 1 and the reason.

    `blobtide up` assigns each service its own port: see `started health_port=...` in its log.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/livez" if live else "/readyz")
        answer = connection.getresponse()
        if answer.status == http.HTTPStatus.OK:
            notes = json.loads(answer.read()).get("notes", [])
            say("; ".join(["alive" if live else "ready", *notes]))
            return
        reason = json.loads(answer.read()).get("reason") or "not alive"
    except OSError as error:
        reason = f"no service responds on port {port}: {error.strerror or error}"
    except (http.client.HTTPException, ValueError) as error:
        reason = f"the server on port {port} is not a blobtide service: {error}"
    finally:
        connection.close()
    say(reason, err=True)
    sys.exit(1)
