"""``blobtide health``: is a service on this machine ready? The exit code answers; for container health checks."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request

import click

from libs.common.settings.services import HttpSettings


@click.command()
@click.option("--port", type=int, default=HttpSettings().port, show_default=True, help="The service's health port.")
@click.option("--live", is_flag=True, help="Ask whether it is alive instead of ready.")
def command(port: int, *, live: bool) -> None:
    """Exit with 0 if the service is ready (or alive), else with 1 and the reason."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{'livez' if live else 'readyz'}", timeout=3):
            return
    except urllib.error.HTTPError as error:
        reason = json.loads(error.read()).get("reason") or "not alive"
    except OSError as error:
        reason = f"no service answers on port {port}: {error}"
    click.echo(reason, err=True)
    sys.exit(1)
